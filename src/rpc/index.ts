/**
 * How threads call each other: comlink, with what it lacks. Typed errors keep tag, fields and cause; `AbortSignal`,
 * callbacks and async iterables may be arguments or results, without leaving ports behind; a worker that dies rejects
 * what waits for it.
 *
 * ```ts
 * // worker
 * const api = { async *count(to: number, signal: AbortSignal) { … } }
 * export type Api = typeof api
 * serve(api)
 * // page
 * const link = connectWorker<Api>(new Worker(url, { type: 'module' }), 'counting worker')
 * for await (const n of await link.api.count(10, signal)) …
 * link.terminate()
 * ```
 *
 * @module
 */
import { type Endpoint, expose, type Remote, transferHandlers, wrap } from 'comlink'
import { abortError, type PackedError, packError, TritswapError, unpackError } from '../errors.ts'

export { transfer } from 'comlink'

/** An API as the other thread sees it: every method returns a promise; async iterables stay iterable. */
export type RemoteApi<T> = {
  [K in keyof T]: T[K] extends (...args: infer A) => infer R
    ? (...args: A) => Promise<R extends AsyncIterable<infer V> ? AsyncIterableIterator<V> : Awaited<R>>
    : never
}

/** Ports of the signals and callbacks that came from the other thread. */
const borrowed = new WeakMap<object, MessagePort>()
/** Closes the port of a callback that nobody can call any more. */
const forgotten = new FinalizationRegistry<MessagePort>(finish)

/**
 * Closes the port behind a callback or signal that came as an argument. Signals close when the call settles; callbacks
 * may be kept for longer, and close when they are collected unless this is called.
 */
export function release(argument: object): void {
  const port = borrowed.get(argument)
  if (!port) return
  borrowed.delete(argument)
  forgotten.unregister(argument)
  finish(port)
}

type ThrownValue = { value: unknown }
type PackedThrow = { error: PackedError } | { value: unknown }
type SignalWire = { aborted: true; reason: PackedError } | { aborted: false; port: MessagePort }

let installed = false

/**
 * Teaches comlink typed errors, `AbortSignal`, functions (one-way callbacks) and async iterables as arguments and
 * results of calls (not inside objects). Needed on both sides; {@link serve} and {@link connectWorker} do it.
 */
export function installTransferHandlers(): void {
  if (installed) return
  installed = true
  const thrown = transferHandlers.get('throw')!
  transferHandlers.set('throw', {
    canHandle: thrown.canHandle as (value: unknown) => value is ThrownValue,
    serialize: ({ value }: ThrownValue): [PackedThrow, Transferable[]] => [
      value instanceof Error ? { error: packError(value) } : { value },
      [],
    ],
    deserialize(packed: PackedThrow): never {
      throw 'error' in packed ? unpackError(packed.error) : packed.value
    },
  })
  transferHandlers.set('signal', {
    canHandle: (value: unknown): value is AbortSignal => value instanceof AbortSignal,
    serialize: sendSignal,
    deserialize: receiveSignal,
  })
  transferHandlers.set('callback', {
    canHandle: (value: unknown): value is Callback => typeof value === 'function',
    serialize: sendCallback,
    deserialize: receiveCallback,
  })
  transferHandlers.set('iterable', {
    canHandle: isAsyncIterable,
    serialize: sendIterable,
    deserialize: receiveIterable,
  })
}

// AbortSignal: one message, when it aborts. The receiver says when it needs no more.

function sendSignal(signal: AbortSignal): [SignalWire, Transferable[]] {
  if (signal.aborted) return [{ aborted: true, reason: packError(abortError(signal)) }, []]
  const { port1, port2 } = new MessageChannel()
  const onAbort = () => {
    port1.postMessage(packError(abortError(signal)))
    port1.close()
  }
  signal.addEventListener('abort', onAbort, { once: true })
  port1.onmessage = () => {
    signal.removeEventListener('abort', onAbort)
    port1.close()
  }
  return [{ aborted: false, port: port2 }, [port2]]
}

function receiveSignal(wire: SignalWire): AbortSignal {
  if (wire.aborted) return AbortSignal.abort(unpackError(wire.reason))
  const controller = new AbortController()
  const { port } = wire
  port.onmessage = ({ data }: MessageEvent<PackedError>) => {
    controller.abort(unpackError(data))
    port.close()
  }
  borrowed.set(controller.signal, port)
  return controller.signal
}

// Callbacks: arguments go one way and nothing comes back, so that reporting progress costs no round trip.

type Callback = (...args: unknown[]) => void

function sendCallback(callback: Callback): [MessagePort, Transferable[]] {
  const { port1, port2 } = new MessageChannel()
  port1.onmessage = ({ data }: MessageEvent<unknown[] | 'done'>) => {
    if (data === 'done') port1.close()
    else callback(...data)
  }
  return [port2, [port2]]
}

function receiveCallback(port: MessagePort): Callback {
  const callback = (...args: unknown[]) => port.postMessage(args)
  borrowed.set(callback, port)
  forgotten.register(callback, port, callback)
  return callback
}

function finish(port: MessagePort): void {
  port.postMessage('done')
  port.close()
}

// Async iterables: the reader asks for each value, so a slow reader holds the producer back.

type IterableReply = { value: unknown } | { done: true } | { error: PackedError }

function isAsyncIterable(value: unknown): value is AsyncIterable<unknown> {
  return (
    typeof value === 'object' &&
    value !== null &&
    Symbol.asyncIterator in value &&
    // A stream is transferred by the platform.
    !(typeof ReadableStream !== 'undefined' && value instanceof ReadableStream)
  )
}

function sendIterable(iterable: AsyncIterable<unknown>): [MessagePort, Transferable[]] {
  const { port1, port2 } = new MessageChannel()
  const iterator = iterable[Symbol.asyncIterator]()
  port1.onmessage = async ({ data }: MessageEvent<'next' | 'return'>) => {
    let reply: IterableReply
    try {
      const result = data === 'next' ? await iterator.next() : await iterator.return?.()
      reply =
        result === undefined || result.done || data === 'return' ? { done: true } : { value: result.value }
    } catch (error) {
      reply = { error: packError(error) }
    }
    port1.postMessage(reply)
    if (!('value' in reply)) port1.close()
  }
  return [port2, [port2]]
}

function receiveIterable(port: MessagePort): AsyncIterableIterator<unknown> {
  let finished = false
  async function ask(what: 'next' | 'return'): Promise<IteratorResult<unknown, undefined>> {
    if (finished) return { done: true, value: undefined }
    if (what === 'return') finished = true
    const reply = await new Promise<IterableReply>((resolve) => {
      port.addEventListener('message', ({ data }: MessageEvent<IterableReply>) => resolve(data), {
        once: true,
      })
      port.start()
      port.postMessage(what)
    })
    if ('value' in reply) return { done: false, value: reply.value }
    finished = true
    port.close()
    if ('error' in reply) throw unpackError(reply.error)
    return { done: true, value: undefined }
  }
  // One question at a time: an answer belongs to the question before it.
  let last: Promise<unknown> = Promise.resolve()
  const inTurn = (what: 'next' | 'return') => {
    const answer = last.then(() => ask(what))
    last = answer.catch(() => {})
    return answer
  }
  const iterator: AsyncIterableIterator<unknown> = {
    next: () => inTurn('next'),
    return: () => inTurn('return'),
    [Symbol.asyncIterator]: () => iterator,
  }
  return iterator
}

/** Asks the other side to hold the lock of this name while it lives. */
interface LivenessMessage {
  tritswapLiveness: string
}

const hasLocks = () => globalThis.navigator?.locks !== undefined

function isLiveness(data: unknown): data is LivenessMessage {
  return typeof data === 'object' && data !== null && 'tritswapLiveness' in data
}

/**
 * Exposes the methods of `api` to the other side. Signals among the arguments are good until the call settles, or until
 * the async iterable that it returned ends; callbacks for as long as they are kept.
 */
export function serve<T extends object>(
  api: T,
  endpoint: Endpoint = globalThis as unknown as Endpoint,
): void {
  installTransferHandlers()
  /** Resolves once this thread's death would be noticed: no call starts before. */
  let alive: Promise<void> | undefined
  const methods = new Proxy(api, {
    get(target, key) {
      const method: unknown = Reflect.get(target, key)
      if (typeof method !== 'function') return method
      return async (...args: unknown[]) => {
        await alive
        return settle(() => method.apply(target, args), args)
      }
    },
  })
  endpoint.addEventListener('message', (event) => {
    const { data } = event as MessageEvent<unknown>
    if (!isLiveness(data) || !hasLocks()) return
    alive = new Promise((resolve) => {
      navigator.locks
        .request(data.tritswapLiveness, () => {
          endpoint.postMessage(data)
          resolve()
          // The browser frees the lock when this thread ends, however it ends.
          return new Promise(() => {})
        })
        .catch(() => resolve())
    })
  })
  expose(methods, endpoint)
}

async function settle(call: () => unknown, args: unknown[]): Promise<unknown> {
  const releaseSignals = () => {
    for (const arg of args) if (arg instanceof AbortSignal) release(arg)
  }
  let result: unknown
  try {
    result = await call()
  } catch (error) {
    releaseSignals()
    throw error
  }
  if (!isAsyncIterable(result)) {
    releaseSignals()
    return result
  }
  const iterator = result[Symbol.asyncIterator]()
  let released = false
  const end = () => {
    if (!released) releaseSignals()
    released = true
  }
  const watched: AsyncIterableIterator<unknown> = {
    async next() {
      try {
        const step = await iterator.next()
        if (step.done) end()
        return step
      } catch (error) {
        end()
        throw error
      }
    },
    async return() {
      try {
        await iterator.return?.()
      } finally {
        end()
      }
      return { done: true, value: undefined }
    },
    [Symbol.asyncIterator]: () => watched,
  }
  return watched
}

/** Blob addresses of the scripts that lie on other origins. */
const importers = new Map<string, string>()

/**
 * Starts a module worker wherever its script lies. Browsers refuse workers from other origins, so there a script made
 * here imports it: the page needs `worker-src blob:`, the other origin `Access-Control-Allow-Origin`.
 *
 * @param start - takes the constructor and makes the worker in the form that bundlers look for:
 * `(Worker) => new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' })`
 */
export function startWorker(start: (Constructor: typeof Worker) => Worker): Worker {
  return start(
    new Proxy(Worker, {
      construct(Constructor, [script, options]: ConstructorParameters<typeof Worker>) {
        // Bundlers make a string of the address.
        const { origin, href } = new URL(script, globalThis.location.href)
        return new Constructor(origin === globalThis.location.origin ? href : importerOf(href), options)
      },
    }),
  )
}

/**
 * Address of a script of this origin that does nothing but import another. By `import()`, which policies take for a
 * script where they take `import` for a worker; it takes a moment, and messages are held back until it is done.
 */
function importerOf(script: string): string {
  const known = importers.get(script)
  if (known !== undefined) return known
  const code = `const held = []
const hold = (event) => {
  event.stopImmediatePropagation()
  held.push(event)
}
addEventListener('message', hold)
import(${JSON.stringify(script)}).then(
  () => {
    removeEventListener('message', hold)
    for (const { data, ports } of held) dispatchEvent(new MessageEvent('message', { data, ports }))
  },
  (error) => setTimeout(() => { throw error }),
)
`
  const importer = URL.createObjectURL(new Blob([code], { type: 'text/javascript' }))
  importers.set(script, importer)
  return importer
}

/** A worker as seen from the thread that made it. */
export interface WorkerLink<T> {
  /** Calls into the worker. All pending ones reject with `worker` when it dies, later ones at once. */
  readonly api: RemoteApi<T>
  /** Aborts when the worker is gone; its reason is the error that calls reject with. */
  readonly dead: AbortSignal
  /** Ends the worker. Pending calls reject with `reason`, or a `worker` error. */
  terminate(reason?: Error): void
}

/**
 * Connects to a worker that called {@link serve}. Its death is noticed where it shows: a script that does not load, an
 * error that nobody caught, a message that cannot be read, and (with Web Locks) any other end of the thread.
 */
export function connectWorker<T extends object>(worker: Worker, name: string): WorkerLink<T> {
  installTransferHandlers()
  const death = new AbortController()
  const locks = new AbortController()
  const remote = wrap<T>(worker)

  const die = (reason: Error) => {
    if (death.signal.aborted) return
    worker.terminate()
    locks.abort()
    death.abort(reason)
  }
  worker.addEventListener('error', (event) => {
    event.preventDefault()
    const why = event.message ? `: ${event.message}` : '; its script did not load'
    die(died(name, `it failed${why}`, event.error))
  })
  worker.addEventListener('messageerror', () => die(died(name, 'a message of it could not be read')))
  if (hasLocks()) {
    const lock = `tritswap-${name}-${crypto.randomUUID()}`
    worker.addEventListener('message', ({ data }: MessageEvent<unknown>) => {
      if (!isLiveness(data) || data.tritswapLiveness !== lock) return
      navigator.locks
        .request(lock, { signal: locks.signal }, () => die(died(name, 'its thread ended')))
        .catch(() => {})
    })
    worker.postMessage({ tritswapLiveness: lock } satisfies LivenessMessage)
  }

  return {
    api: raced(remote, death.signal),
    dead: death.signal,
    terminate: (reason) => die(reason ?? died(name, 'it was stopped')),
  }
}

function died(name: string, what: string, cause?: unknown): TritswapError {
  return new TritswapError('worker', `Cannot go on with the ${name}: ${what}`, {
    fields: { worker: name },
    cause,
  })
}

/** Calls that also settle when the worker dies, which comlink's own never do. */
function raced<T extends object>(remote: Remote<T>, dead: AbortSignal): RemoteApi<T> {
  const callable = remote as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>
  const call = async (key: string, args: unknown[]) => {
    const result = await untilDead(() => callable[key](...args), dead)
    if (!isAsyncIterable(result)) return result
    const iterator = result[Symbol.asyncIterator]()
    const guarded: AsyncIterableIterator<unknown> = {
      next: () => untilDead(() => iterator.next(), dead),
      return: async () => {
        if (!dead.aborted) await untilDead(async () => iterator.return?.(), dead).catch(() => {})
        return { done: true, value: undefined }
      },
      [Symbol.asyncIterator]: () => guarded,
    }
    return guarded
  }
  return new Proxy({} as RemoteApi<T>, {
    get: (_target, key) =>
      // Not a promise itself, or awaiting it would call the worker.
      key === 'then' || typeof key === 'symbol' ? undefined : (...args: unknown[]) => call(key, args),
  })
}

function untilDead<T>(start: () => Promise<T>, dead: AbortSignal): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const onDeath = () => reject(dead.reason as Error)
    if (dead.aborted) return onDeath()
    dead.addEventListener('abort', onDeath, { once: true })
    start()
      .then(resolve, reject)
      .finally(() => dead.removeEventListener('abort', onDeath))
  })
}
