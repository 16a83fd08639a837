import { beforeEach, describe, expect, test } from 'vitest'
import { Engine } from '../../src/engine/engine.ts'
import type { GeneratedToken } from '../../src/engine/protocol.ts'
import type { StreamOptions } from '../../src/engine/token_stream.ts'
import { isAbortError, isTritswapError } from '../../src/errors.ts'
import { fakeFetches, fakeFiles } from '../loader/fake_host.ts'
import { type FakeModel, fakeModel } from './fake_model.ts'

const never = new AbortController().signal
let model: FakeModel
let engine: Engine

beforeEach(() => start())

async function start(budget?: number) {
  model = fakeModel(budget)
  engine = new Engine({ openPrepared: async () => model.open, openUnprepared: async () => model.open })
  await open()
}

function open() {
  return engine.open({} as never, new MessageChannel().port1, never, () => {})
}

async function load(...ids: string[]) {
  for (const id of ids) {
    const { port, signal } = fakeFetches(fakeFiles()).load({ source: `${id}.trit` })
    await engine.load(id, undefined, port, signal)
  }
}

const set = (...ids: string[]) => ids.map((expert) => ({ expert, weight: 1 }))

async function read(options: StreamOptions) {
  const tokens: GeneratedToken[] = []
  for await (const token of generate('a', options)) tokens.push(token)
  return tokens
}

/** The tokens of a generation, without the prompt before them. */
function generate(prompt: string, options: StreamOptions, signal = never) {
  const events = engine.generate(prompt, options, signal)
  const tokens: AsyncIterableIterator<GeneratedToken, unknown> = {
    async next() {
      const { done, value } = await events.next()
      if (done) return { done, value }
      return 'prompt' in value ? tokens.next() : { done: false, value }
    },
    return: async () => ({ done: true, value: (await events.return!()).value }),
    [Symbol.asyncIterator]: () => tokens,
  }
  return tokens
}

/** Until nothing happens any more. */
const settled = () => new Promise((resolve) => setTimeout(resolve, 20))

describe('opening', () => {
  test('a second model is refused, also while the first one opens', async () => {
    await expect(open()).rejects.toSatisfy((error) => isTritswapError(error, 'input'))
    const opening = new Engine({
      openPrepared: () => new Promise(() => {}),
      openUnprepared: async () => model.open,
    })
    void opening.open({} as never, new MessageChannel().port1, never, () => {})
    await expect(
      opening.openUnprepared(
        {} as never,
        never,
        () => {},
        () => {},
      ),
    ).rejects.toThrow(/second model/)
  })

  test('one that failed leaves room for another try', async () => {
    let fails = true
    const openPrepared = async () => {
      if (fails) throw new Error('no network')
      return model.open
    }
    engine = new Engine({ openPrepared, openUnprepared: openPrepared })
    await expect(open()).rejects.toThrow('no network')
    expect(() => engine.stats()).toThrow(/no model is open/)
    fails = false
    expect(await open()).toBe(model.open.info)
  })

  test('a lost device is not reported once the engine was disposed', async () => {
    const lost: string[] = []
    let lose = (_: string) => {}
    engine = new Engine({
      openPrepared: async (_request, _port, _signal, onLost) => {
        lose = onLost
        return model.open
      },
      openUnprepared: async () => model.open,
    })
    await engine.open({} as never, new MessageChannel().port1, never, (message) => lost.push(message))
    lose('first')
    await engine.dispose()
    lose('second')
    expect(lost).toEqual(['first'])
  })
})

describe('generate', () => {
  test('with experts of its own, while the default is another set', async () => {
    await load('a', 'b')
    await engine.activate(set('b'), false, never)
    const [own, byDefault] = await Promise.all([
      read({ maxNewTokens: 2, experts: set('a') }),
      read({ maxNewTokens: 2 }),
    ])
    expect(own.map(({ experts }) => experts)).toEqual([set('a'), set('a')])
    expect(byDefault.map(({ experts }) => experts)).toEqual([set('b'), set('b')])
    expect(model.passes.toSorted()).toEqual(['a', 'a', 'b', 'b'])
  })

  test('names evicted experts at the call, and holds those that it has', async () => {
    await start(2000)
    await load('a', 'b', 'c')
    expect(() => engine.generate('x', { experts: set('a') }, never)).toThrow(/evicted/)
    const tokens = generate('x', { experts: set('b'), maxNewTokens: 1 })
    await load('d')
    expect(model.residents()).toEqual(['b', 'd'])
    await tokens.return?.()
    // Merged until the next pass needs the weights, or the room is needed.
    expect(model.merged()).toEqual(['b'])
    await load('e', 'f')
    expect(model.residents()).toEqual(['b', 'f'])
    const { port, signal } = fakeFetches(fakeFiles({ large: 2000 })).load({ source: 'large.trit' })
    await engine.load('large', undefined, port, signal)
    expect(model.residents()).toEqual(['large'])
    expect(model.merged()).toEqual([])
  })

  test('a switch takes effect between two tokens, or with kv: recompute when the context was read again', async () => {
    await load('a')
    const tokens = generate('x', { maxNewTokens: 20, kv: 'recompute' })
    const first = await tokens.next()
    expect(first.value).toMatchObject({ experts: [] })
    await engine.activate(set('a'), false, never)
    let last: GeneratedToken | undefined
    for await (const token of tokens) last = token
    expect(last?.experts).toEqual(set('a'))
  })

  test('a reader that stops reading holds the forward passes back', async () => {
    const tokens = generate('x', { maxNewTokens: 100 })
    await tokens.next()
    await settled()
    expect(model.passes.length).toBeLessThanOrEqual(5)
    const passes = model.passes.length
    await tokens.next()
    await settled()
    expect(model.passes.length).toBe(passes + 1)
    // What it does not read, others get the GPU for.
    expect(await read({ maxNewTokens: 3 })).toHaveLength(3)
    for await (const { token } of tokens) if (token === 50) break
  })

  test('a reader that leaves waits for the forward pass under way, and nothing runs after it', async () => {
    const tokens = generate('x', { maxNewTokens: 100 })
    await tokens.next()
    await tokens.return?.()
    const passes = model.passes.length
    await settled()
    expect(model.passes.length).toBe(passes)
    expect(await tokens.next()).toEqual({ done: true, value: undefined })
  })

  test('one that was aborted rejects at the next token, whatever was written ahead', async () => {
    const abort = new AbortController()
    const tokens = generate('x', { maxNewTokens: 100 }, abort.signal)
    await tokens.next()
    await settled()
    abort.abort()
    await expect(tokens.next()).rejects.toSatisfy(isAbortError)
    await expect(read({ maxNewTokens: 1 })).resolves.toHaveLength(1)
    const before = generate('x', {}, AbortSignal.abort())
    await expect(before.next()).rejects.toSatisfy(isAbortError)
  })

  test('a forward pass that fails ends it with its error', async () => {
    const tokens = generate('x', {})
    await tokens.next()
    model.beforePass = Promise.reject(new Error('out of memory'))
    const rest = async () => {
      for await (const _ of tokens);
    }
    await expect(rest()).rejects.toThrow('out of memory')
  })
})

test('logits, score and compare run with the sets that they are given', async () => {
  await load('a', 'b')
  expect(await engine.logits('xy', set('a'))).toEqual(Float32Array.of(3, 4))
  expect(await engine.score([0, 1], undefined)).toMatchObject({ tokens: 1, bytes: 1 })
  const [same] = await engine.compare([0, 1], set('a'), [set('b')])
  // KL of the two softmaxes of the fake model: (1, 4) and (1, 2).
  expect(same).toEqual({ positions: 1, agreeing: 1, klBits: expect.closeTo(0.245) })
  expect(model.passes).toEqual(['a', 'base', 'a', 'b'])
})

test('compare names its evicted experts before anything runs', async () => {
  await start(2000)
  await load('a', 'b', 'c')
  await expect(engine.compare([0, 1], set('c'), [set('a')])).rejects.toMatchObject({
    fields: { evicted: ['a'] },
  })
  expect(model.passes).toEqual([])
})

test('dispose waits for the forward pass under way and ends generations', async () => {
  let finish = () => {}
  model.beforePass = new Promise<void>((resolve) => {
    finish = resolve
  })
  const tokens = generate('x', { maxNewTokens: 100 })
  const next = tokens.next()
  next.catch(() => {})
  const disposed = engine.dispose()
  await settled()
  expect(model.destroyed).toBe(false)
  expect(() => engine.tokenize('x')).toThrow(/no model is open/)
  finish()
  await disposed
  expect([model.destroyed, model.disposed, model.passes.length]).toEqual([true, true, 1])
  await expect(next).rejects.toSatisfy((error) => isTritswapError(error, 'released'))
})

test('dispose ends a generation whose reader has stopped reading', async () => {
  const tokens = generate('x', { maxNewTokens: 100 })
  await tokens.next()
  await settled()
  await engine.dispose()
  expect(model.destroyed).toBe(true)
  await expect(tokens.next()).rejects.toSatisfy((error) => isTritswapError(error, 'released'))
})
