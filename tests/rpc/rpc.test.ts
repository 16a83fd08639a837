import { describe, expect, test } from 'vitest'
import { TritswapError } from '../../src/errors.ts'
import { connectWorker, release } from '../../src/rpc/index.ts'
import { fakeWorker } from './fake_worker.ts'

let closed = 0
let aborted: unknown
let produced = 0
let lastCallback: ((value: string) => void) | undefined

const api = {
  add: (a: number, b: number) => a + b,
  fail() {
    throw new TritswapError('limit', 'Cannot do it: too much', {
      fields: { found: 3 },
      cause: new RangeError('inner'),
    })
  },
  failPlainly() {
    throw new RangeError('plain')
  },
  never: () => new Promise<never>(() => {}),
  untilAborted: (signal: AbortSignal) =>
    new Promise<never>((_resolve, reject) => {
      signal.addEventListener('abort', () => {
        aborted = signal.reason
        reject(signal.reason)
      })
    }),
  isAborted: (signal: AbortSignal) => signal.aborted,
  async report(callback: (done: number, of: number) => void) {
    for (let i = 1; i <= 3; i++) callback(i, 3)
  },
  remember(callback: (value: string) => void) {
    lastCallback = callback
  },
  async *count(to: number, signal?: AbortSignal) {
    try {
      for (let i = 1; i <= to; i++) {
        signal?.throwIfAborted()
        produced = i
        yield i
      }
    } finally {
      closed++
    }
  },
  async *countAndFail() {
    yield 1
    throw new TritswapError('network', 'Cannot count further')
  },
}

function connect() {
  const fake = fakeWorker(api)
  return { fake, link: connectWorker<typeof api>(fake.worker, 'test worker') }
}

async function collect<T>(values: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const value of values) all.push(value)
  return all
}

describe('calls', () => {
  test('return values and typed errors with fields and causes', async () => {
    const { link } = connect()
    expect(await link.api.add(2, 3)).toBe(5)
    const error = await link.api.fail().catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(TritswapError)
    expect(error).toMatchObject({ tag: 'limit', message: 'Cannot do it: too much', fields: { found: 3 } })
    expect((error as Error).cause).toMatchObject({ name: 'RangeError', message: 'inner' })
    await expect(link.api.failPlainly()).rejects.toMatchObject({ name: 'RangeError', message: 'plain' })
    link.terminate()
  })

  test('carry signals, aborted before or during the call', async () => {
    const { link } = connect()
    expect(await link.api.isAborted(AbortSignal.abort())).toBe(true)
    const controller = new AbortController()
    const call = link.api.untilAborted(controller.signal)
    await link.api.add(1, 1)
    controller.abort(new TritswapError('released', 'Cannot go on'))
    await expect(call).rejects.toMatchObject({ tag: 'released' })
    expect(aborted).toMatchObject({ tag: 'released' })
    link.terminate()
  })

  test('a signal that outlives many calls gathers no listeners', async () => {
    const { link } = connect()
    const { signal } = new AbortController()
    let listeners = 0
    const { addEventListener, removeEventListener } = signal
    signal.addEventListener = (...args: Parameters<typeof addEventListener>) => {
      listeners++
      addEventListener.apply(signal, args)
    }
    signal.removeEventListener = (...args: Parameters<typeof removeEventListener>) => {
      listeners--
      removeEventListener.apply(signal, args)
    }
    for (let i = 0; i < 20; i++) await link.api.isAborted(signal)
    await collect(await link.api.count(3, signal))
    await expect.poll(() => listeners).toBe(0)
    link.terminate()
  })

  test('carry callbacks, which work after the call until they are released', async () => {
    const { link } = connect()
    const reports: number[][] = []
    await link.api.report((...args) => reports.push(args))
    await expect
      .poll(() => reports)
      .toEqual([
        [1, 3],
        [2, 3],
        [3, 3],
      ])
    const heard: string[] = []
    await link.api.remember((value) => heard.push(value))
    lastCallback?.('late')
    await expect.poll(() => heard).toEqual(['late'])
    release(lastCallback!)
    lastCallback?.('too late')
    await link.api.add(1, 1)
    expect(heard).toEqual(['late'])
    link.terminate()
  })
})

describe('async iterables', () => {
  test('deliver values, errors and the end', async () => {
    const { link } = connect()
    expect(await collect(await link.api.count(4))).toEqual([1, 2, 3, 4])
    const values: number[] = []
    const reading = (async () => {
      for await (const value of await link.api.countAndFail()) values.push(value)
    })()
    await expect(reading).rejects.toMatchObject({ tag: 'network' })
    expect(values).toEqual([1])
    link.terminate()
  })

  test('close on the other side when the reader leaves', async () => {
    const { link } = connect()
    closed = 0
    for await (const value of await link.api.count(100)) if (value === 3) break
    expect(closed).toBe(1)
    link.terminate()
  })

  test('produce a value only when the reader asks for one', async () => {
    const { link } = connect()
    const values = await link.api.count(100)
    for (let i = 1; i <= 3; i++) {
      expect(await values.next()).toEqual({ done: false, value: i })
      await link.api.add(1, 1)
      expect(produced).toBe(i)
    }
    await values.return?.()
    link.terminate()
  })

  test('answer reads that were asked for at once in order', async () => {
    const { link } = connect()
    const values = await link.api.count(2)
    const reads = await Promise.all([values.next(), values.next(), values.next(), values.next()])
    expect(reads.map(({ value }) => value)).toEqual([1, 2, undefined, undefined])
    link.terminate()
  })

  test('end when the signal aborts', async () => {
    const { link } = connect()
    const controller = new AbortController()
    const reading = (async () => {
      for await (const value of await link.api.count(1e9, controller.signal))
        if (value === 3) controller.abort()
    })()
    await expect(reading).rejects.toMatchObject({ name: 'AbortError' })
    link.terminate()
  })
})

describe('death', () => {
  test('rejects what is pending and what comes later', async () => {
    const { fake, link } = connect()
    const values = await link.api.count(1e9)
    await values.next()
    const pending = link.api.never()
    fake.crash('boom')
    await expect(pending).rejects.toMatchObject({ tag: 'worker', message: expect.stringContaining('boom') })
    await expect(values.next()).rejects.toMatchObject({ tag: 'worker' })
    await expect(link.api.add(1, 1)).rejects.toMatchObject({ tag: 'worker' })
    expect(await values.return?.()).toEqual({ done: true, value: undefined })
    expect(link.dead.aborted).toBe(true)
    expect(fake.terminated).toBe(true)
  })

  test('by our own hand rejects with the reason given', async () => {
    const { link } = connect()
    const pending = link.api.never()
    link.terminate(new TritswapError('released', 'Cannot go on: disposed'))
    await expect(pending).rejects.toMatchObject({ tag: 'released' })
  })
})
