/** A switcher with a fake engine on the page of a test, and what is in it. */
import { expect, vi } from 'vitest'
import { ExpertSwitcher } from '../../src/element/expert_switcher.ts'
import { type FakeOptions, fakeLoader } from './fake_loader.ts'

export const REGISTRY = {
  version: 1,
  experts: ['austen', 'bard', 'css'].map((id) => ({
    id,
    label: id.toUpperCase(),
    description: `<img src=x onerror="document.title = 'broken'"> ${id}`,
    url: `https://experts.example/${id}.trit`,
    bytes: 190_000,
    rootHash: '0'.repeat(64),
    prompt: `${id} begins`,
    samples: [`Ask ${id}`],
    replaces: { f16Delta: 8_850_000 },
  })),
}

/** A switcher on the page, its registry read; with `ready` its base loaded as well. */
export async function place(fake: FakeOptions = {}, { ready = true } = {}): Promise<ExpertSwitcher> {
  ExpertSwitcher.createLoader = fakeLoader(fake)
  const switcher = document.createElement('expert-switcher')
  switcher.experts = `data:application/json,${encodeURIComponent(JSON.stringify(REGISTRY))}`
  switcher.prompt = 'Once'
  document.body.append(switcher)
  if (ready) await switcher.load()
  await vi.waitFor(() => expect(switcher.state.pens).toHaveLength(4))
  await switcher.updateComplete
  return switcher
}

/** The first match in the element, its parts included. */
export function find<T extends Element = HTMLElement>(root: Element, selector: string): T | undefined {
  return all<T>(root, selector)[0]
}

export function all<T extends Element = HTMLElement>(root: Element, selector: string): T[] {
  const shadow = root.shadowRoot!
  const parts = [...shadow.querySelectorAll('*')].filter((element) => element.shadowRoot !== null)
  return [...shadow.querySelectorAll<T>(selector), ...parts.flatMap((part) => all<T>(part, selector))]
}

export const button = (root: Element, name: string) =>
  all<HTMLButtonElement>(root, 'button').find((element) => element.textContent?.trim() === name)

export function removeAll(): void {
  for (const element of document.querySelectorAll('expert-switcher')) element.remove()
}
