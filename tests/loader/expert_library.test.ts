import { beforeEach, describe, expect, test } from 'vitest'
import { isAbortError, isTritswapError } from '../../src/errors.ts'
import { activeOf, type Expert, ExpertLibrary } from '../../src/loader/expert_library.ts'
import type { LoadedExperts } from '../../src/model/loaded_experts.ts'
import { type FakeFiles, type FakeHost, fakeFetches, fakeFiles, fakeHost } from './fake_host.ts'

let files: FakeFiles
let fake: FakeHost
let library: ExpertLibrary<LoadedExperts>
let home: LoadedExperts

function start(budget?: number, bytes: Record<string, number> = {}) {
  files = fakeFiles(bytes)
  fake = fakeHost(budget)
  home = fake.host.loaded
  library = new ExpertLibrary(fakeFetches(files), async () => home)
}
beforeEach(() => start())

const load = (name: string) => library.load(`https://x.example/${name}.trit`)
const activate = (...experts: Expert[]) =>
  library.activate(experts.map(({ id }) => ({ expert: id, weight: 1 })))

test.each([
  ['a URL', 'https://x.example/experts/austen.trit', 'austen'],
  ['a URL object', new URL('https://x.example/experts/austen.trit'), 'austen'],
  ['a name on the hub', 'hf:owner/repo/austen.trit@main', 'austen.trit@main'],
  ['a folder', new URL('https://x.example/'), 'expert'],
  ['bytes', new ArrayBuffer(8), 'expert'],
])('the id of %s', async (_, source, id) => {
  expect((await library.load(source)).id).toBe(id)
  expect((await library.load(source)).id).toBe(`${id}#2`)
  expect((await library.load({ source, id: 'own' })).id).toBe('own')
})

test('loads at the same time have ids of their own, and a failed one gives its id back', async () => {
  files.before = (name) => (name === 'bad' ? Promise.reject(new Error('no network')) : undefined)
  const [first, second] = await Promise.all([load('a'), load('a')])
  expect([first.id, second.id]).toEqual(['a', 'a#2'])
  await expect(library.load({ source: 'bad.trit', id: 'b' })).rejects.toThrow('no network')
  expect((await library.load({ source: 'a.trit', id: 'b' })).id).toBe('b')
})

test('the first switch reports the phases of the load before it, the next one none', async () => {
  const a = await load('a')
  expect(a.timings).toMatchObject({ fetch: 5, verify: 2, networkBytes: 1000, requests: 1 })
  const first = await activate(a)
  expect(first.phases).toMatchObject({ fetch: 5, verify: 2 })
  expect(first.experts).toEqual([{ expert: 'a', weight: 1 }])
  expect(first.total).toBeGreaterThanOrEqual(7)
  await activate()
  expect((await activate(a)).phases).toMatchObject({ fetch: 0, verify: 0, upload: 0 })
  expect(library.lastSwitch?.set).toBe(2)
})

describe('which base', () => {
  const [own, other] = ['a'.repeat(64), 'b'.repeat(64)]
  const open = () => {
    const warnings: string[] = []
    library = new ExpertLibrary(fakeFetches(files), async () => home, {
      fingerprint: () => own,
      onWarning: (message) => warnings.push(message),
    })
    return warnings
  }

  test('an expert that does not say is loaded, and said so once', async () => {
    const warnings = open()
    files.unknownBase = true
    expect(await load('a')).toMatchObject({ baseMatch: 'unknown' })
    await (await load('a')).release()
    await load('a')
    expect(warnings).toEqual([expect.stringMatching(/^Whether a was made for this base is unknown/)])
    files.unknownBase = false
    expect(await load('b')).toMatchObject({ baseMatch: 'same' })
    expect(warnings).toHaveLength(1)
  })

  test('what a registry says of it is compared before anything is fetched', async () => {
    open()
    const request = { source: 'a.trit', base: { name: 'llama', fingerprint: other } }
    await expect(library.load(request)).rejects.toMatchObject({
      tag: 'base',
      message: expect.stringMatching(
        /expected the base llama bbbbbbbbbbbb as its registry says, found aaaaaaaaaaaa/,
      ),
    })
    expect(files.fetched).toEqual([])
    expect((await library.load({ ...request, base: { fingerprint: own } })).id).toBe('a')
  })
})

describe('an expert that is there under another id', () => {
  test('is taken from VRAM where its root hash is known', async () => {
    await load('a')
    const again = await library.load({ source: 'a.trit', id: 'again', rootHash: 'a' })
    expect(again).toMatchObject({ id: 'again', rootHash: 'a', timings: { networkBytes: 0, requests: 0 } })
    expect(files.fetched).toEqual(['a'])
    await activate(again)
    expect(fake.merged()).toEqual(['a'])
  })

  test('is fetched once it was evicted', async () => {
    start(1000)
    await load('a')
    await load('b')
    await library.load({ source: 'a.trit', id: 'again', rootHash: 'a' })
    expect(files.fetched).toEqual(['a', 'b', 'a'])
  })
})

describe('evicted experts', () => {
  test('are loaded again by whatever call needs them', async () => {
    start(2000)
    const [a, b, c] = [await load('a'), await load('b'), await load('c')]
    await activate(a)
    expect(fake.merged()).toEqual(['a'])
    const report = await activate(b)
    expect(report.phases).toMatchObject({ fetch: 5, verify: 2 })
    const logits = () =>
      library.run([activeOf(c)], async (at) => at.set(activeOf(c)).experts[0].expert.rootHash)
    expect(await logits()).toBe('c')
    expect(files.fetched).toEqual(['a', 'b', 'c', 'a', 'b', 'c'])
  })

  test('do not evict each other: all of a set is there at once', async () => {
    start(3000)
    const experts = [await load('a'), await load('b'), await load('c'), await load('d')]
    // a is gone, and b is the one that would go for it.
    await activate(...experts.slice(0, 3))
    expect(fake.merged()).toEqual(['a', 'b', 'c'])
    expect(files.fetched).toEqual(['a', 'b', 'c', 'd', 'a'])
  })

  test('are fetched once for several calls at the same time', async () => {
    start(1000)
    const a = await load('a')
    await load('b')
    const use = () => library.run([activeOf(a)], async (at) => at.set(activeOf(a)))
    await Promise.all([use(), use(), use()])
    expect(files.fetched).toEqual(['a', 'b', 'a'])
  })

  test('of which one was released meanwhile: the call says so', async () => {
    start(1000)
    const a = await load('a')
    await load('b')
    let go = () => {}
    files.before = () =>
      new Promise<void>((resolve) => {
        go = resolve
      })
    const activated = activate(a)
    await expect.poll(() => files.fetched.length).toBe(3)
    await a.release()
    go()
    await expect(activated).rejects.toSatisfy((error) => isTritswapError(error, 'released'))
    files.before = () => undefined
    expect((await load('a')).id).toBe('a')
  })
})

test('a set takes the room of the one before it, by way of the base', async () => {
  start(2000, { big: 2000 })
  const big = await load('big')
  const a = await load('a')
  const b = await load('b')
  await activate(a, b)
  await activate(big)
  expect(fake.merged()).toEqual(['big'])
  expect(fake.log.slice(-4)).toEqual(['switch base', 'evict a', 'evict b', 'switch big'])
})

test('a set that the budget has no room for leaves what is active', async () => {
  start(2000)
  const [a, b, c] = [await load('a'), await load('b'), await load('c')]
  await activate(a)
  await expect(activate(a, b, c)).rejects.toSatisfy((error) => isTritswapError(error, 'memory'))
  expect(fake.merged()).toEqual(['a'])
})

test('a switch that waits for the GPU’s end does not hide the one after it', async () => {
  const [a, b] = [await load('a'), await load('b')]
  let end = () => {}
  fake.gpuEnd = new Promise((resolve) => {
    end = () => resolve({ totalMs: 3, gpuMs: 2 })
  })
  const first = library.activate(activeOf(a), { timed: true })
  await expect.poll(() => fake.merged()).toEqual(['a'])
  const second = await activate(b)
  expect(second.gpuMs).toBeUndefined()
  end()
  expect((await first).gpuMs).toBe(2)
  expect(library.lastSwitch).toBe(second)
  // A new home starts with what was asked for last.
  await library.restore(home)
  expect(fake.merged()).toEqual(['b'])
})

test('a set takes the room of one that waits for the GPU’s end', async () => {
  start(2000, { big: 2000 })
  const big = await load('big')
  const a = await load('a')
  let end = () => {}
  fake.gpuEnd = new Promise((resolve) => {
    end = () => resolve({ totalMs: 3 })
  })
  const first = library.activate(activeOf(a), { timed: true })
  await expect.poll(() => fake.merged()).toEqual(['a'])
  await activate(big)
  expect(fake.merged()).toEqual(['big'])
  end()
  await first
})

test('of quick switches the last one wins, also over one that had to load first', async () => {
  start(2000)
  const [a, b, c] = [await load('a'), await load('b'), await load('c')]
  let go = () => {}
  files.before = () =>
    new Promise<void>((resolve) => {
      go = resolve
    })
  const slow = activate(a)
  await expect.poll(() => files.fetched.length).toBe(4)
  await activate(c)
  go()
  await expect(slow).rejects.toSatisfy(isAbortError)
  expect(fake.merged()).toEqual(['c'])
  const quick = await Promise.allSettled([activate(c), activate(), activate(c)])
  expect(quick.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'fulfilled'])
  expect(b.id).toBe('b')
})

test('an expert is released once', async () => {
  const a = await load('a')
  await a.release()
  await expect(a.release()).rejects.toSatisfy((error) => isTritswapError(error, 'released'))
  await expect(activate(a)).rejects.toSatisfy((error) => isTritswapError(error, 'released'))
})

describe('a new home', () => {
  test('gets the set that was active, and other experts when they are needed', async () => {
    const [a, b] = [await load('a'), await load('b')]
    await activate(a)
    fake = fakeHost()
    home = fake.host.loaded
    await library.restore(home)
    expect(fake.merged()).toEqual(['a'])
    expect(fake.residents()).toEqual(['a'])
    await activate(b)
    expect(fake.merged()).toEqual(['b'])
    expect(files.fetched).toEqual(['a', 'b', 'a', 'b'])
  })

  test('starts with the base where an expert of the set was released', async () => {
    const a = await load('a')
    await activate(a)
    await a.release()
    fake = fakeHost()
    home = fake.host.loaded
    await library.restore(home)
    expect(fake.merged()).toEqual([])
    await activate(await load('b'))
  })
})

test('200 random sets of 64 experts within the budget: each can be activated, and used by a call', async () => {
  let state = 5
  const random = (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
  const BUDGET = 40_000
  const names = Array.from({ length: 64 }, (_, i) => `e${i}`)
  start(BUDGET, Object.fromEntries(names.map((name) => [name, 400 + random(12_000)])))
  const experts: Expert[] = []
  for (const name of names) experts.push(await load(name))
  for (let i = 0; i < 200; i++) {
    const set: Expert[] = []
    let bytes = 0
    for (const expert of Array.from({ length: 1 + random(8) }, () => experts[random(64)])) {
      if (set.includes(expert) || bytes + expert.residentBytes > BUDGET) continue
      set.push(expert)
      bytes += expert.residentBytes
    }
    await activate(...set)
    expect(fake.merged()).toEqual(set.map(({ rootHash }) => rootHash))
    const own = set.slice(0, 1).flatMap(activeOf)
    const sets = await library.run([own], async (at) => at.set(own).experts.length)
    expect(sets).toBe(1)
  }
})
