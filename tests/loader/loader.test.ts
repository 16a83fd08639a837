import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { isAbortError, isTritswapError, TritswapError } from '../../src/errors.ts'
import { type Expert, ExpertLoader } from '../../src/loader/index.ts'
import { type FakePage, fakePage } from './fake_page.ts'

let page: FakePage
let loader: ExpertLoader
let warnings: string[]

beforeEach(() => {
  page = fakePage()
  warnings = []
})
afterEach(async () => {
  await loader?.dispose()
  vi.unstubAllGlobals()
})

async function open(budget = Number.POSITIVE_INFINITY) {
  page.budget = budget
  loader = await ExpertLoader.create({ model: './m', onWarning: (message) => warnings.push(message) })
}

const load = (name: string) => loader.load(`https://x.example/${name}.trit`)
const engine = () => page.engines[page.engines.length - 1]
const failsWith = (tag: string) => (error: unknown) => isTritswapError(error) && error.tag === tag

async function write(experts?: Expert, maxNewTokens = 2) {
  const tokens = []
  for await (const token of loader.generate('x', { experts, maxNewTokens })) tokens.push(token)
  return tokens
}

test('a load is one message to the engine, and so is a switch', async () => {
  await open()
  const a = await load('a')
  await loader.activate(a)
  expect(engine().calls).toEqual(['open', 'load', 'activate'])
  await loader.load({ source: 'a.trit', id: 'again', rootHash: a.rootHash })
  expect(engine().calls.slice(3)).toEqual(['adopt'])
  expect(await loader.stats()).toMatchObject({ lastSwitch: { phases: { fetch: 5, verify: 2 } } })
})

test('tokens say what wrote them; a page that stops reading holds the engine back', async () => {
  await open()
  const a = await load('a')
  expect((await write(a)).map(({ text, experts }) => [text, experts])).toEqual([
    ['0', [{ expert: 'a', weight: 1 }]],
    ['1', [{ expert: 'a', weight: 1 }]],
  ])
  const { passes } = engine()
  const before = passes.length
  const tokens = loader.generate('x', { maxNewTokens: 100 })
  await tokens.next()
  await new Promise((resolve) => setTimeout(resolve, 30))
  expect(passes.length - before).toBeLessThanOrEqual(6)
  await tokens.return()
  expect(passes.length - before).toBeLessThanOrEqual(7)
})

test('every call loads again what it needs and was evicted', async () => {
  await open(1000)
  const experts = [await load('a'), await load('b')]
  for (const [i, call] of [
    (expert: Expert) => loader.activate(expert),
    (expert: Expert) => write(expert),
    (expert: Expert) => loader.logits('x', expert),
    (expert: Expert) => loader.score([0, 1], expert),
    (expert: Expert) => loader.compare([0, 1], expert, [expert]),
  ].entries()) {
    await loader.deactivate()
    const { rootHash } = experts[i % 2]
    page.files.fetched.length = 0
    await call(experts[i % 2])
    expect(page.files.fetched, `call ${i}`).toEqual([rootHash])
  }
})

describe('after the engine died', () => {
  test('the next call starts another one with the set that was active', async () => {
    await open()
    const [a, b] = [await load('a'), await load('b')]
    await loader.activate(a)
    engine().crash()
    expect(warnings).toEqual([expect.stringMatching(/The engine stopped: .*out of memory/)])
    expect(await write()).toMatchObject([{ experts: [{ expert: 'a' }] }, {}])
    expect(await write(b)).toMatchObject([{ experts: [{ expert: 'b' }] }, {}])
    expect(page.engines.map(({ terminated }) => terminated)).toEqual([true, false])
    expect(page.files.fetched).toEqual(['base', 'a', 'b', 'base', 'a', 'b'])
  })

  test('several calls at once start one', async () => {
    await open()
    engine().crash()
    await Promise.all([loader.tokenize('x'), loader.logits('x'), load('a')])
    expect(page.engines).toHaveLength(2)
  })

  test('a start that fails ends its worker, and the next call tries again', async () => {
    await open()
    await loader.activate(await load('a'))
    engine().crash()
    page.files.before = (name) => (name === 'a' ? Promise.reject(new Error('no network')) : undefined)
    await expect(loader.tokenize('x')).rejects.toThrow('no network')
    page.files.before = () => undefined
    expect(await write()).toMatchObject([{ experts: [{ expert: 'a' }] }, {}])
    expect(page.engines.map(({ terminated }) => terminated)).toEqual([true, true, false])
  })
})

describe('a lost device', () => {
  const hold = () => {
    let go = () => {}
    const held = new Promise<void>((resolve) => {
      go = resolve
    })
    return { held, go }
  }

  test('ends a load, and the next one starts anew', async () => {
    await open()
    const { held, go } = hold()
    page.files.before = () => held
    const loading = load('a')
    await expect.poll(() => engine().calls.includes('load')).toBe(true)
    engine().loseDevice()
    go()
    await expect(loading).rejects.toSatisfy(failsWith('device-lost'))
    expect((await load('a')).id).toBe('a')
    expect(page.engines).toHaveLength(2)
  })

  /** What a fetch worker does whose reader is gone. */
  const wait = () => new Promise(() => {})
  const allSettled = (calls: Promise<unknown>[]) => Promise.allSettled(calls)
  const lost = { status: 'rejected', reason: expect.toSatisfy(failsWith('device-lost')) }

  test('ends loads that wait for their reader, as often as it happens', async () => {
    await open()
    for (let loss = 1; loss <= 5; loss++) {
      page.files.before = (name) => (name === 'a' ? wait() : undefined)
      const loads = allSettled([load('a'), load('a')])
      await expect.poll(() => page.files.fetched.filter((name) => name === 'a')).toHaveLength(loss)
      await expect.poll(() => engine().calls.filter((call) => call === 'load')).toHaveLength(2)
      engine().loseDevice()
      expect(await loads).toEqual([lost, lost])
      expect(await loader.tokenize('x')).toBeDefined()
      expect(page.engines).toHaveLength(loss + 1)
    }
    page.files.before = () => undefined
    const a = await load('a')
    expect((await loader.activate(a)).experts).toEqual([{ expert: 'a', weight: 1 }])
  })

  test('ends the start of a loader', async () => {
    page.files.before = wait
    const opening = open()
    await expect.poll(() => page.engines[0]?.calls.includes('open')).toBe(true)
    engine().loseDevice()
    await expect(opening).rejects.toSatisfy(failsWith('device-lost'))
    expect(engine().terminated).toBe(true)
  })

  test.each(['base', 'a'])(
    'ends a restart that loads %s, and the call after it starts anew',
    async (file) => {
      await open()
      await loader.activate(await load('a'))
      engine().loseDevice()
      await expect.poll(() => engine().terminated).toBe(true)
      for (let loss = 2; loss <= 6; loss++) {
        page.files.fetched.length = 0
        page.files.before = (name) => (name === file ? wait() : undefined)
        const restarting = allSettled([loader.tokenize('x'), loader.checksum()])
        await expect.poll(() => page.files.fetched.includes(file)).toBe(true)
        await expect.poll(() => engine().calls.includes(file === 'a' ? 'load' : 'open')).toBe(true)
        engine().loseDevice()
        expect(await restarting).toEqual([lost, lost])
      }
      page.files.before = () => undefined
      expect(await write()).toMatchObject([{ experts: [{ expert: 'a' }] }, {}])
    },
  )

  test('that a call reports is lost for the next one', async () => {
    await open()
    const rejected = Promise.reject(new TritswapError('device-lost', 'lost'))
    rejected.catch(() => {})
    engine().beforeSwitch = rejected
    await expect(loader.activate(await load('a'))).rejects.toSatisfy(failsWith('device-lost'))
    await loader.activate(await load('a'))
    expect(page.engines.map(({ terminated }) => terminated)).toEqual([true, false])
  })

  test('ends a switch, which can be asked for again', async () => {
    await open()
    const [a, b] = [await load('a'), await load('b')]
    await loader.activate(a)
    const { held } = hold()
    engine().beforeSwitch = held
    const switching = loader.activate(b)
    await expect.poll(() => engine().calls.filter((call) => call === 'activate')).toHaveLength(2)
    engine().loseDevice()
    await expect(switching).rejects.toSatisfy(failsWith('device-lost'))
    await loader.activate(b)
    expect(engine().log).toEqual(['switch a', 'switch b'])
  })

  test('ends a generation', async () => {
    await open()
    const tokens = loader.generate('x', { maxNewTokens: 100 })
    await tokens.next()
    engine().loseDevice()
    const rest = async () => {
      for await (const _ of tokens);
    }
    await expect(rest()).rejects.toSatisfy(failsWith('device-lost'))
  })
})

describe('rest', () => {
  test('ends the engine without a word; the next call takes everything up again', async () => {
    await open()
    await loader.activate(await load('a'))
    const resting = engine()
    await loader.rest()
    expect(resting).toMatchObject({ terminated: true, destroyed: true })
    await loader.rest()
    expect(page.engines).toHaveLength(1)
    expect(await loader.trim()).toBe(0)
    expect(await write()).toMatchObject([{ experts: [{ expert: 'a' }] }, {}])
    expect(page.engines.map(({ terminated }) => terminated)).toEqual([true, false])
    expect(warnings).toEqual([])
  })

  test('a call that comes meanwhile waits for the VRAM, and a generation under way ends', async () => {
    await open()
    const resting = engine()
    let pass = () => {}
    resting.beforePass = new Promise<void>((resolve) => {
      pass = resolve
    })
    const writing = expect(write()).rejects.toSatisfy(failsWith('released'))
    await expect.poll(() => resting.calls.includes('generate')).toBe(true)
    const rested = loader.rest()
    const next = loader.tokenize('x')
    pass()
    await Promise.all([rested, next, writing])
    expect(resting).toMatchObject({ terminated: true, destroyed: true })
    expect(page.engines).toHaveLength(2)
  })

  test('a loader that is disposed of while it rests stays so', async () => {
    await open()
    await loader.rest()
    await loader.dispose()
    await expect(loader.tokenize('x')).rejects.toSatisfy(failsWith('released'))
    expect(page.engines).toHaveLength(1)
  })
})

describe('dispose', () => {
  test('ends loads under way, the worker, and every later call', async () => {
    await open()
    page.files.before = () => new Promise(() => {})
    const loading = load('a')
    await expect.poll(() => page.files.fetched.includes('a')).toBe(true)
    const ended = expect(loading).rejects.toSatisfy(failsWith('released'))
    await loader.dispose()
    await ended
    expect(engine()).toMatchObject({ terminated: true, destroyed: true })
    await expect(load('b')).rejects.toSatisfy(failsWith('released'))
    await expect(loader.tokenize('x')).rejects.toSatisfy(failsWith('released'))
    await loader.dispose()
    expect(warnings).toEqual([])
  })

  test('does not wait for the restart of an engine that is busy', async () => {
    await open()
    await loader.activate(await load('a'))
    engine().crash()
    page.beforeSwitch = new Promise(() => {})
    const ended = expect(loader.tokenize('x')).rejects.toSatisfy(failsWith('released'))
    await expect.poll(() => engine().calls.includes('activate')).toBe(true)
    await loader.dispose()
    await ended
  })

  test('of a restart under way ends it', async () => {
    await open()
    engine().crash()
    page.beforeOpen = new Promise(() => {})
    const restarting = loader.tokenize('x')
    const ended = expect(restarting).rejects.toSatisfy(failsWith('released'))
    await expect.poll(() => engine().calls.includes('open')).toBe(true)
    await loader.dispose()
    await ended
    expect(page.engines.map(({ terminated }) => terminated)).toEqual([true, true])
  })
})

test('a start that is aborted rejects with its reason and leaves no worker', async () => {
  page.beforeOpen = new Promise(() => {})
  const abort = new AbortController()
  const opening = ExpertLoader.create({ model: './m', signal: abort.signal })
  const ended = expect(opening).rejects.toSatisfy(isAbortError)
  await expect.poll(() => page.engines[0]?.calls.includes('open')).toBe(true)
  abort.abort()
  await ended
  expect(engine().terminated).toBe(true)
})

test('a GPU without f16 refuses a base of that dtype before any of it is fetched', async () => {
  const fetched: string[] = []
  vi.stubGlobal('fetch', async (url: string) => {
    fetched.push(url)
    const weights = { file: 'base.trit', bytes: 1, rootHash: '0'.repeat(64) }
    return Response.json({ version: 1, weights, dtype: 'q4f16', graphs: [] })
  })
  vi.stubGlobal('navigator', { gpu: { requestAdapter: async () => ({ features: new Set() }) } })
  await expect(ExpertLoader.create({ model: './m' })).rejects.toMatchObject({
    tag: 'webgpu',
    fields: { missing: 'shader-f16' },
  })
  expect(fetched).toEqual(['https://page.example/m/tritswap.json'])
  expect(page.files.fetched).toEqual([])
})

test('compose finds the expert that knows the examples, and leaves the chosen set alone', async () => {
  await open()
  const [a, b] = [await load('a'), await load('b')]
  await loader.activate(b)
  const found = await loader.compose([b, a], ['x y', 'y z'], { evaluations: 8 })
  expect(found).toMatchObject({ name: 'alone', choice: [{ expert: a, weight: 1 }] })
  expect(found.candidates.map(({ name }) => name)).toEqual([
    'nothing',
    'alone',
    'alone',
    'average',
    'composed',
  ])
  expect((await write()).map(({ experts }) => experts[0].expert)).toEqual(['b', 'b'])
  await loader.activate(found.choice)
  expect((await write()).map(({ experts }) => experts[0].expert)).toEqual(['a', 'a'])
})

test('weights may differ by groups of layers, at most as many as the base has', async () => {
  await open()
  const a = await load('a')
  await loader.activate([{ expert: a, weight: 1, groups: [0, 0.5] }])
  expect((await write())[0].experts).toEqual([{ expert: 'a', weight: 1, groups: [0, 0.5] }])
  for (const groups of [[1, 1, 1], [], [Number.NaN]])
    await expect(loader.activate([{ expert: a, weight: 1, groups }])).rejects.toSatisfy(failsWith('input'))
  expect((await write())[0].experts).toEqual([{ expert: 'a', weight: 1, groups: [0, 0.5] }])
  const found = await loader.compose([a], ['x y'], { groups: 2, evaluations: 9 })
  expect(found.candidates.map(({ name }) => name).slice(-2)).toEqual(['composed', 'composed by layers'])
  await expect(loader.compose([a], ['x y'], { groups: 3, evaluations: 9 })).rejects.toSatisfy(
    failsWith('input'),
  )
})
