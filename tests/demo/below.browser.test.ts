import { afterEach, beforeAll, expect, test, vi } from 'vitest'
import { showBelow } from '../../src/demo/below.ts'
import { linkAddress, parseLink } from '../../src/demo/link.ts'
import { defineElements } from '../../src/element/elements.ts'
import { ExpertSwitcher } from '../../src/element/expert_switcher.ts'
import { type FakeOptions, fakeLoader } from '../element/fake_loader.ts'

const TEXT =
  'Emma Woodhouse, handsome, clever, and rich, with a comfortable home and happy disposition. '.repeat(8)

/** What the page is told of pens that were left out. */
const say = vi.fn()

beforeAll(defineElements)

afterEach(() => {
  document.body.replaceChildren()
  history.replaceState(null, '', '#')
  vi.restoreAllMocks()
})

/** A page with its lower half; texts come from where the tests say. */
async function page(fake: FakeOptions = {}): Promise<{ switcher: ExpertSwitcher; below: HTMLElement }> {
  ExpertSwitcher.createLoader = fakeLoader(fake)
  const switcher = document.createElement('expert-switcher')
  switcher.prompt = 'Once'
  const below = document.createElement('div')
  document.body.append(switcher, below)
  linkAddress(switcher, say)
  showBelow(below, switcher)
  switcher.state.setRegistry(
    ['austen', 'bard'].map((id) => ({
      id,
      label: id.toUpperCase(),
      url: `https://experts.example/${id}.trit`,
      bytes: 190_000,
      rootHash: '0'.repeat(64),
      text: `https://experts.example/${id}.txt`,
    })),
  )
  await switcher.load()
  return { switcher, below }
}

const part = (below: HTMLElement, name: string) => below.querySelector(name)!.shadowRoot!
const press = async (root: ShadowRoot, name: string) => {
  const button = () =>
    [...root.querySelectorAll('button')].find((each) => each.textContent?.trim() === name && !each.disabled)
  await vi.waitFor(() => expect(button()).toBeDefined())
  button()!.click()
}
const texts = (root: ShadowRoot, selector: string) =>
  [...root.querySelectorAll(selector)].map((each) => each.textContent)

test('all pens write on from the prompt, each with its own expert, and the pen in hand stays', async () => {
  const log: string[] = []
  const { switcher, below } = await page({ log, text: ' a b', software: false })
  const columns = part(below, 'trit-side-by-side')
  await press(columns, 'Try all pens')
  await vi.waitFor(() => expect(texts(columns, '.written')).toHaveLength(3), { timeout: 20_000 })
  await vi.waitFor(() => expect(texts(columns, '.written')[2]).toBe(' a b'.repeat(20)))
  expect(texts(columns, 'h3')).toEqual(['Base', 'AUSTEN', 'BARD'])
  expect(log).toEqual(['load austen', 'load bard'])
  expect(switcher.state.held).toEqual([])
})

test('they can be stopped, and what one pen cannot do the next one can', async () => {
  const { below } = await page({ failExpert: 'austen', tokenMs: 2 })
  const columns = part(below, 'trit-side-by-side')
  await press(columns, 'Try all pens')
  await vi.waitFor(() => expect(texts(columns, '[role=alert]')[0]).toMatch(/Cannot use austen/))
  await vi.waitFor(() => expect(texts(columns, '.written')).toHaveLength(2))
  await press(columns, 'Stop all')
  await press(columns, 'Try all pens')
  await vi.waitFor(() => expect(columns.querySelector('[aria-busy=true]')).not.toBeNull())
  await press(columns, 'Stop all')
})

test('on a software adapter every cell gets a coarse figure before any is measured whole', async () => {
  vi.spyOn(globalThis, 'fetch').mockImplementation(async () => new Response(TEXT))
  const lengths: number[] = []
  const { switcher, below } = await page()
  const { loader } = switcher.state
  const score = loader!.score.bind(loader)
  loader!.score = (tokens, experts) => {
    lengths.push(tokens.length)
    return score(tokens, experts)
  }
  const measure = part(below, 'trit-measure')
  await press(measure, 'Measure')
  await vi.waitFor(() => expect(texts(measure, '.controls .figure')[0]).toBe('12 of 12'))
  expect(lengths.slice(0, 6).every((length) => length <= 32)).toBe(true)
  expect(lengths.slice(6).every((length) => length > 32)).toBe(true)
  expect(texts(measure, 'td.coarse')).toEqual([])
})

test('there, too, all pens write little, and what is left is told', async () => {
  const { below } = await page({ text: ' a b', tokenMs: 700 })
  const columns = part(below, 'trit-side-by-side')
  await press(columns, 'Try all pens')
  await vi.waitFor(() => expect(texts(columns, '.left')[0]).toMatch(/^up to \d+ s left$/), { timeout: 5000 })
  await press(columns, 'Stop all')
})

test('bits per byte of every pen on every text fill the table', async () => {
  vi.spyOn(globalThis, 'fetch').mockImplementation(async () => new Response(TEXT))
  const { below } = await page({ software: false })
  const measure = part(below, 'trit-measure')
  await press(measure, 'Measure')
  await vi.waitFor(() => expect(texts(measure, '.controls .figure')).toEqual(['6 of 6']))
  expect(texts(measure, 'thead th').slice(1)).toEqual(['austen', 'bard'])
  // The fake base takes 3 bits for a byte, its experts 2.
  expect(texts(measure, 'td')).toEqual(['3.000', '3.000', '2.000', '2.000', '2.000', '2.000'])
  expect(texts(measure, 'td.best')).toHaveLength(4)
})

test('measuring can be stopped; a text that is not there is said', async () => {
  const fetched = vi.spyOn(globalThis, 'fetch').mockImplementation(async () => new Response(TEXT))
  const { below } = await page({ tokenMs: 40 })
  const measure = part(below, 'trit-measure')
  await press(measure, 'Measure')
  await vi.waitFor(() => expect(texts(measure, 'td')[0]).toBe('3.000'))
  await press(measure, 'Stop measuring')
  await vi.waitFor(() => expect(texts(measure, 'button')).toContain('Measure'))
  expect(texts(measure, 'td').at(-1)).toBe('')
  expect(measure.querySelector('[role=alert]')).toBeNull()
  fetched.mockImplementation(async () => new Response('', { status: 404 }))
  await press(measure, 'Measure')
  await vi.waitFor(() =>
    expect(texts(measure, '[role=alert]')[0]).toMatch(/austen.txt: the server answered 404/),
  )
})

test('a file of the visitor becomes a pen; what is no expert is said where it was chosen', async () => {
  const log: string[] = []
  const { switcher, below } = await page({ log })
  const own = part(below, 'trit-bring-your-own')
  const choose = async (file: File) => {
    const files = new DataTransfer()
    files.items.add(file)
    await vi.waitFor(() => expect(own.querySelector('input')!.disabled).toBe(false))
    own.querySelector('input')!.files = files.files
    own.querySelector('input')!.dispatchEvent(new Event('change'))
  }
  await choose(new File(['not an expert'], 'mine.trit'))
  await vi.waitFor(() => expect(texts(own, '[role=alert]')[0]).toMatch(/mine\.trit/))
  expect(switcher.state.pens).toHaveLength(3)

  const expert = await (await fetch('/experts/css.trit')).arrayBuffer()
  await choose(new File([expert], 'mine.trit'))
  await vi.waitFor(() => expect(log.at(-1)).toBe('activate own-1'))
  await vi.waitFor(() => expect(texts(own, '[role=status]')[0]).toMatch(/, 191 kB, is in hand$/))
  expect(switcher.state.pens.at(-1)).toMatchObject({ id: 'own-1', bytes: expert.byteLength })
  // A link cannot bring it along.
  await vi.waitFor(() => expect(location.hash).toBe('#prompt=Once&pens='))
})

test('the address keeps prompt, experts and weights, and brings them back', async () => {
  history.replaceState(null, '', '#prompt=The%20king&pens=bard:0.75,austen:0.25')
  const { switcher } = await page()
  await vi.waitFor(() =>
    expect(switcher.state.held).toMatchObject([
      { pen: { id: 'bard' }, weight: 0.75 },
      { pen: { id: 'austen' }, weight: 0.25 },
    ]),
  )
  expect(switcher.prompt).toBe('The king')
  switcher.prompt = 'A & B'
  await switcher.activate('austen')
  await vi.waitFor(() => expect(location.hash).toBe('#prompt=A%20%26%20B&pens=austen:1'))
  location.hash = '#prompt=Back&pens=bard:0.5'
  await vi.waitFor(() => expect(switcher.state.held).toMatchObject([{ pen: { id: 'bard' }, weight: 0.5 }]))
  expect(switcher.prompt).toBe('Back')
})

test('pens that a link names and that are not here are left out and named; what is out of range is clamped', async () => {
  history.replaceState(null, '', '#prompt=Hi&pens=dante:1,bard:99,nobody&seed=99999999999')
  const { switcher } = await page()
  await vi.waitFor(() => expect(switcher.state.held).toMatchObject([{ pen: { id: 'bard' }, weight: 2 }]))
  expect(say).toHaveBeenLastCalledWith(
    'This link names pens that are not here: dante, nobody. They were left out.',
  )
  expect(switcher.state.registryProblem).toBe('')
  expect(parseLink('#seed=99999999999&pens=a:-3,b:1.5,c:1.5,d:x')).toEqual({
    prompt: undefined,
    seed: 999_999_999,
    pens: [
      { id: 'a', weight: 0 },
      { id: 'b', weight: 1.5 },
      { id: 'c', weight: 1.5 },
      { id: 'd', weight: 1 },
    ],
  })
})

test('where chance chooses, the address keeps the seed of the text that is shown', async () => {
  history.replaceState(null, '', '#prompt=Once&seed=7')
  ExpertSwitcher.createLoader = fakeLoader()
  const switcher = document.createElement('expert-switcher')
  switcher.temperature = 0.8
  document.body.append(switcher)
  linkAddress(switcher, say)
  expect(switcher.seed).toBe(7)
  await switcher.load()
  await switcher.generate()
  await vi.waitFor(() => expect(location.hash).toBe('#prompt=Once&pens=&seed=7'))
  // The next text is another one.
  expect(switcher.seed).not.toBe(7)
})

test('what was measured is saved as JSON', async () => {
  vi.spyOn(globalThis, 'fetch').mockImplementation(async () => new Response(TEXT))
  const { below } = await page({ software: false })
  const measure = part(below, 'trit-measure')
  await press(measure, 'Measure')
  await vi.waitFor(() => expect(texts(measure, '.controls .figure')).toEqual(['6 of 6']))
  const saved: Blob[] = []
  vi.spyOn(URL, 'createObjectURL').mockImplementation((blob) => {
    saved.push(blob as Blob)
    return '#saved'
  })
  const clicked = vi.spyOn(HTMLAnchorElement.prototype, 'click').mockImplementation(() => {})
  await press(measure, 'Save as JSON')
  expect((clicked.mock.contexts[0] as HTMLAnchorElement).download).toBe('tritswap-bits-per-byte.json')
  const { model, windows, rows, texts: read } = JSON.parse(await saved[0]!.text())
  expect({ model, windows }).toEqual({ model: 'demo', windows: 1 })
  expect(read.map(({ name }: { name: string }) => name)).toEqual(['austen', 'bard'])
  expect(rows.map(({ id, bitsPerByte }: { id: string; bitsPerByte: object }) => [id, bitsPerByte])).toEqual([
    ['', { austen: 3, bard: 3 }],
    ['austen', { austen: 2, bard: 2 }],
    ['bard', { austen: 2, bard: 2 }],
  ])
})

test('the two lines are copied; where that is forbidden, it is said', async () => {
  const { below } = await page()
  const written = vi.spyOn(navigator.clipboard, 'writeText').mockResolvedValue()
  const button = [...below.querySelectorAll('button')].find((each) => each.textContent === 'Copy')!
  button.click()
  await vi.waitFor(() => expect(button.textContent).toBe('Copied'))
  expect(written.mock.calls[0]![0]).toMatch(/^<script type="module" src=.*><\/script>\n<expert-switcher .*>$/)
  written.mockRejectedValue(new DOMException('no', 'NotAllowedError'))
  button.click()
  await vi.waitFor(() => expect(button.textContent).toBe('Select it and copy'))
})
