import { afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { defineElements } from '../../src/element/elements.ts'
import { ExpertSwitcher } from '../../src/element/expert_switcher.ts'
import { sha256, toHex } from '../../src/format/sha256.ts'
import { centroidsOf } from '../../src/route/centroids.ts'
import { writeIndex } from '../../src/route/index_file.ts'
import { type FakeOptions, fakeLoader } from './fake_loader.ts'
import { all, button, find, removeAll } from './switcher_page.ts'

const SITE = 'https://experts.example/'
const UNITS = ['12 km in miles', '5 kg in pounds', '30 C in F', '70 mph in km/h']
const DATES = ['ISO of March 3, 2021', 'ISO of 4 May 1999', 'ISO of the 5th of June 2020']
const entry = (id: string, samples: string[], more: object = {}) => ({
  id,
  label: id.toUpperCase(),
  url: `${id}.trit`,
  bytes: 40_000,
  rootHash: id === 'units' ? 'a'.repeat(64) : 'b'.repeat(64),
  samples,
  ...more,
})
const EXPERTS = [entry('units', UNITS), entry('dates', DATES)]

/** What the server has; a file that is null is out of reach. */
const files = new Map<string, Uint8Array<ArrayBuffer> | null>()
/** Waits longer than a busy machine takes. */
const soon = (check: () => unknown) => vi.waitFor(check, { timeout: 15_000 })
const bytesOf = (value: object) => new TextEncoder().encode(JSON.stringify(value))
const serve = (value: object) => files.set('experts.json', bytesOf(value))

beforeAll(defineElements)
beforeEach(() => {
  files.clear()
  const real = globalThis.fetch
  vi.spyOn(globalThis, 'fetch').mockImplementation(async (input, init) => {
    const url = new Request(input, init).url
    if (!url.startsWith(SITE)) return real(input, init)
    const bytes = files.get(url.slice(SITE.length))
    if (bytes === null) throw new TypeError('Failed to fetch')
    return bytes === undefined ? new Response('', { status: 404 }) : new Response(bytes)
  })
})
afterEach(() => {
  removeAll()
  vi.restoreAllMocks()
})

async function chat(fake: FakeOptions = {}, settings: Partial<ExpertSwitcher> = {}): Promise<ExpertSwitcher> {
  ExpertSwitcher.createLoader = fakeLoader({ ...fake, chat: true, text: 'An answer.' })
  const switcher = document.createElement('expert-switcher')
  Object.assign(switcher, { mode: 'chat', auto: true, experts: `${SITE}experts.json`, ...settings })
  document.body.append(switcher)
  await switcher.load()
  await soon(() => expect(switcher.state.registryRead || switcher.state.registryProblem).toBeTruthy())
  return switcher
}

const answers = async (switcher: ExpertSwitcher) => {
  await switcher.updateComplete
  await find<ExpertSwitcher>(switcher, 'trit-chat')!.updateComplete
  return all(switcher, '.answer').map((answer) => ({
    by: answer.querySelector('h3')!.textContent!.trim(),
    why: answer.querySelector('.found span')?.textContent ?? '',
  }))
}

test('each question is answered by the one that it is for, which the answer says, and another one can be taken', async () => {
  serve({ version: 1, experts: EXPERTS })
  const log: string[] = []
  const switcher = await chat({ log })
  await switcher.ask('8 km in feet')
  await switcher.ask('9 kg in ounces')
  await switcher.ask('Write a poem about autumn')
  expect(await answers(switcher)).toEqual([
    { by: 'UNITS', why: expect.stringMatching(/^UNITS: \d+ % like what UNITS was made for/) },
    { by: 'UNITS', why: expect.stringContaining('UNITS') },
    { by: 'Base', why: expect.stringMatching(/^None fits/) },
  ])
  // Who reads a chat of another one's answers was not made for that: it begins anew.
  expect(log.filter((line) => /^(ask|end|load|activate|deactivate)/.test(line))).toEqual([
    'load units',
    'activate units',
    'ask 8 km in feet',
    'activate units',
    'ask 9 kg in ounces',
    'deactivate',
    'end',
    'ask Write a poem about autumn',
  ])
  const select = find<HTMLSelectElement>(switcher, '.found select')!
  expect([...select.options].map(({ text }) => text)).toEqual(['Base', 'UNITS', 'DATES'])
  select.selectedIndex = 2
  select.dispatchEvent(new Event('change'))
  await soon(async () => expect((await answers(switcher)).at(-1)).toEqual({ by: 'DATES', why: '' }))
  expect(switcher.auto).toBe(true)
})

test('taking a pen by hand ends it, and its sample is asked without a route', async () => {
  serve({ version: 1, experts: EXPERTS })
  const switcher = await chat()
  await switcher.updateComplete
  button(switcher, `DATES ${DATES[0]}`)!.click()
  await soon(async () => expect(await answers(switcher)).toEqual([{ by: 'DATES', why: '' }]))
  all<HTMLInputElement>(switcher, 'input[type=radio]')[1]!.click()
  await soon(() => expect(switcher.auto).toBe(false))
})

test('what is refused is said, and what is in hand goes on writing', async () => {
  serve({ version: 1, experts: EXPERTS })
  const switcher = await chat({ failExpert: 'units' })
  await switcher.ask('ISO of August 17, 2003')
  await switcher.ask('8 km in feet')
  expect((await answers(switcher))[1]).toEqual({
    by: 'DATES',
    why: expect.stringMatching(/^Cannot use units: .* DATES, which is in hand, answers/),
  })
  expect(switcher.state.exchanges[1]!.answer.length).toBeGreaterThan(0)
})

test('offline, what is kept here is used, and the answer says so', async () => {
  serve({ version: 1, experts: EXPERTS })
  await chat()
  removeAll()
  files.set('experts.json', null)
  vi.spyOn(navigator, 'onLine', 'get').mockReturnValue(false)
  const switcher = await chat({ away: 'units' })
  await switcher.ask('ISO of August 17, 2003')
  await switcher.ask('8 km in feet')
  expect(await answers(switcher)).toEqual([
    { by: 'DATES', why: expect.stringMatching(/^DATES: .*offline: by the list that is kept here/) },
    { by: 'Base', why: 'UNITS fits and is out of reach: the base answers.' },
  ])
})

test('a registry that was swapped is refused where the page holds to one, and its pens stay', async () => {
  serve({ version: 1, experts: EXPERTS })
  const good = await crypto.subtle.digest('SHA-256', files.get('experts.json')!)
  const integrity = `sha256-${btoa(String.fromCharCode(...new Uint8Array(good)))}`
  const switcher = await chat({}, { integrity })
  serve({ version: 1, experts: [entry('dates', UNITS)] })
  await switcher.updateComplete
  find(switcher, 'trit-pen-choice')!.dispatchEvent(new CustomEvent('read-again'))
  await soon(() => expect(switcher.state.registryProblem).toContain('as this page holds to'))
  await switcher.ask('8 km in feet')
  expect((await answers(switcher)).map(({ by }) => by)).toEqual(['UNITS'])
})

test('a signature by another key is refused, and the base writes', async () => {
  const pair = async () =>
    (await crypto.subtle.generateKey({ name: 'Ed25519' }, true, ['sign', 'verify'])) as CryptoKeyPair
  const [named, other] = [await pair(), await pair()]
  const base64 = (bytes: ArrayBuffer) => btoa(String.fromCharCode(...new Uint8Array(bytes)))
  serve({ version: 1, experts: EXPERTS })
  const sign = async ({ privateKey }: CryptoKeyPair) => {
    const signature = await crypto.subtle.sign('Ed25519', privateKey, files.get('experts.json')!)
    files.set('experts.json.sig', new TextEncoder().encode(base64(signature)))
  }
  await sign(other)
  const signedBy = base64(await crypto.subtle.exportKey('raw', named.publicKey))
  const switcher = await chat({}, { signedBy })
  expect(switcher.state.registryProblem).toContain('its signature is not one of the key')
  await switcher.ask('8 km in feet')
  expect(await answers(switcher)).toEqual([{ by: 'Base', why: '' }])
  await sign(named)
  await soon(() => button(switcher, 'Try again')!.click())
  await soon(() => expect(find(switcher, '.voucher')!.textContent).toContain(signedBy))
})

test('an index of another registry is refused, and what is in hand writes', async () => {
  const index = writeIndex([{ id: 'dates', label: 'DATES', centroids: centroidsOf(UNITS) }])
  files.set('experts.idx', index)
  const file = { url: 'experts.idx', bytes: index.length, sha256: toHex(await sha256(index)) }
  serve({ version: 1, index: file, experts: EXPERTS })
  const switcher = await chat()
  await switcher.ask('8 km in feet')
  expect(await answers(switcher)).toEqual([
    { by: 'Base', why: expect.stringMatching(/^Cannot use the index .* Base, which is in hand, answers/) },
  ])
})

test('one that was withdrawn says why, can’t be taken, and is not found', async () => {
  serve({ version: 1, experts: [entry('units', UNITS, { withdrawn: 'It mixed up miles' }), EXPERTS[1]] })
  const switcher = await chat()
  await switcher.ask('8 km in feet')
  expect((await answers(switcher)).map(({ by }) => by)).toEqual(['Base'])
  const [, units] = all<HTMLInputElement>(switcher, 'input[type=radio]')
  expect(units!.disabled).toBe(true)
  expect(all(switcher, '.about')[1]!.textContent).toContain('Withdrawn: It mixed up miles')
  await switcher.activate('units').catch(() => {})
  expect(switcher.state.held).toEqual([])
})

test('of many experts all names are searched, and their entries come a page at a time', async () => {
  const many = Array.from({ length: 130 }, (_, i) =>
    entry(`e${i}`, [`number ${i}`], { label: `Expert ${i}` }),
  )
  const page = bytesOf({ version: 1, experts: many.slice(100) })
  files.set('experts.1.json', page)
  const index = writeIndex(
    many.map(({ id, label, samples }) => ({ id, label, centroids: centroidsOf(samples) })),
  )
  files.set('experts.idx', index)
  const hashed = async (url: string, bytes: Uint8Array<ArrayBuffer>) => ({
    url,
    bytes: bytes.length,
    sha256: toHex(await sha256(bytes)),
  })
  serve({
    version: 1,
    index: await hashed('experts.idx', index),
    pages: [{ ...(await hashed('experts.1.json', page)), count: 30 }],
    experts: many.slice(0, 100),
  })
  const switcher = await chat()
  await switcher.updateComplete
  const search = find<HTMLInputElement>(switcher, 'input[type=search]')!
  expect(search.placeholder).toBe('Search 130 pens')
  search.value = 'expert 12'
  search.dispatchEvent(new Event('input'))
  await soon(() => expect(button(switcher, 'Expert 127')).toBeDefined())
  expect(vi.mocked(fetch).mock.calls.some(([url]) => String(url).endsWith('experts.1.json'))).toBe(false)
  button(switcher, 'Expert 127')!.click()
  await soon(() => expect(switcher.state.registryProblem || switcher.state.held[0]?.pen.id).toBe('e127'))
  await soon(() => button(switcher, 'Show 31 of 31 more')!.click())
  await soon(() => expect(switcher.state.pens).toHaveLength(131))
})
