import { expect, test } from 'vitest'
import manifest from '../../custom-elements.json'
import { defineElements } from '../../src/element/elements.ts'
import { ExpertSwitcher } from '../../src/element/expert_switcher.ts'
import { theme } from '../../src/element/theme.ts'
import { fakeLoader } from './fake_loader.ts'

const [element] = manifest.modules[0]!.declarations
const names = (list: { name: string }[]) => list.map(({ name }) => name).sort()

test('the manifest names the attributes that the element watches, and no others', () => {
  expect(names(element!.attributes)).toEqual([...ExpertSwitcher.observedAttributes].sort())
})

test('every part and slot that it names is there', async () => {
  defineElements()
  ExpertSwitcher.createLoader = fakeLoader({ text: ' a' })
  const switcher = document.createElement('expert-switcher')
  switcher.prompt = 'Once'
  document.body.append(switcher)
  const found = { parts: new Set<string>(), slots: new Set<string>() }
  const look = async () => {
    await switcher.updateComplete
    const inside = [...switcher.shadowRoot!.querySelectorAll('*')]
    for (const each of inside) {
      for (const part of (each.getAttribute('part') ?? '').split(' ')) found.parts.add(part)
      for (const part of (each.getAttribute('exportparts') ?? '').split(/,\s*/)) {
        if (each.shadowRoot?.querySelector(`[part~="${part}"]`)) found.parts.add(part)
      }
      if (each instanceof HTMLSlotElement) found.slots.add(each.name)
    }
  }
  await look()
  await switcher.load()
  await look()
  await switcher.generate()
  await look()
  switcher.state.status = 'unsupported'
  switcher.requestUpdate()
  await look()
  expect([...found.parts].filter(Boolean).sort()).toEqual(names(element!.cssParts))
  expect([...found.slots].sort()).toEqual(names(element!.slots))
  switcher.remove()
})

test('every custom property that it names has a default', () => {
  // The margin's depends on the width: the parts have it.
  for (const { name } of element!.cssProperties) {
    if (name !== '--trit-margin') expect(theme.cssText).toContain(`${name}:`)
  }
})
