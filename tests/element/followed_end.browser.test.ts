/** The end of a text stays in view while it grows and when a phone is turned, unless the reader has scrolled back. */
import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { defineElements } from '../../src/element/elements.ts'
import type { ExpertSwitcher } from '../../src/element/expert_switcher.ts'
import { find, place, removeAll } from './switcher_page.ts'

// Few tokens, of many words each.
const LONG = `${'every-morning-she-went-down-to-the-water-'.repeat(8)} `.repeat(12)
const PORTRAIT = { width: '390px', height: '700px' }
const LANDSCAPE = { width: '780px', height: '400px' }

beforeAll(defineElements)
afterEach(removeAll)

async function phone(mode: 'chat' | 'manuscript'): Promise<ExpertSwitcher> {
  const switcher = await place({ chat: true, text: LONG })
  Object.assign(switcher, { mode, prompt: mode === 'chat' ? '' : 'Once', maxNewTokens: 12 })
  Object.assign(switcher.style, PORTRAIT)
  await switcher.updateComplete
  if (mode === 'chat') await switcher.ask('What then?')
  else await switcher.generate()
  await vi.waitFor(() =>
    expect(sheetOf(switcher).scrollHeight).toBeGreaterThan(sheetOf(switcher).clientHeight),
  )
  return switcher
}

const sheetOf = (switcher: ExpertSwitcher) =>
  find(switcher, switcher.mode === 'chat' ? '[role=log][aria-label=Chat]' : '.sheet')!

/** px of the text below what is in view. */
const below = (switcher: ExpertSwitcher) => {
  const { scrollHeight, scrollTop, clientHeight } = sheetOf(switcher)
  return scrollHeight - scrollTop - clientHeight
}

const frames = async () => {
  for (let i = 0; i < 3; i++) await new Promise(requestAnimationFrame)
}

describe.each(['chat', 'manuscript'] as const)('%s', (mode) => {
  test('the end is in view when it is written, and after a turn of the phone and back', async () => {
    const switcher = await phone(mode)
    expect(below(switcher)).toBeLessThan(2)
    for (const form of [LANDSCAPE, PORTRAIT, LANDSCAPE]) {
      const { clientWidth } = sheetOf(switcher)
      Object.assign(switcher.style, form)
      await vi.waitFor(() => expect(sheetOf(switcher).clientWidth).not.toBe(clientWidth))
      await frames()
      expect(below(switcher)).toBeLessThan(2)
    }
  })

  test('who reads what stands before it is left there', async () => {
    const switcher = await phone(mode)
    sheetOf(switcher).scrollTop = 0
    await frames()
    Object.assign(switcher.style, LANDSCAPE)
    await frames()
    expect(sheetOf(switcher).scrollTop).toBe(0)
  })
})
