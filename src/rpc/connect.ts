import { type Remote, wrap } from 'comlink'
import { abortable } from '../async/abortable.ts'
import { TritswapError } from '../errors.ts'
import { ReceivedIterable } from './iterables.ts'
import { watchLock } from './liveness.ts'
import { installTransferHandlers } from './transfer_handlers.ts'

/** An API as the other thread sees it: every method returns a promise; async iterables stay iterable. */
export type RemoteApi<T> = {
  [K in keyof T]: T[K] extends (...args: infer A) => infer R
    ? (
        ...args: A
      ) => Promise<
        R extends AsyncIterable<infer V, infer E> ? AsyncIterableIterator<V, E | undefined> : Awaited<R>
      >
    : never
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
 * Connects to a worker that called {@link serve}. Notices its death by a script that does not load, an uncaught error, a
 * message that cannot be read, and (with Web Locks) any other end of the thread.
 * @param options.isFatal - tells of an error that a call rejected with whether the worker is of no use after it: it ends
 */
export function connectWorker<T extends object>(
  worker: Worker,
  name: string,
  { isFatal = () => false }: { isFatal?: (error: unknown) => boolean } = {},
): WorkerLink<T> {
  installTransferHandlers()
  const death = new AbortController()
  const remote = wrap<T>(worker)

  const die = (reason: Error) => {
    if (death.signal.aborted) return
    worker.terminate()
    death.abort(reason)
  }
  worker.addEventListener('error', (event) => {
    event.preventDefault()
    const why = event.message ? `: ${event.message}` : '; its script did not load'
    die(died(name, `it failed${why}`, event.error))
  })
  worker.addEventListener('messageerror', () => die(died(name, 'one of its messages could not be read')))
  watchLock(worker, name, () => die(died(name, 'its thread ended')), death.signal)

  return {
    api: callsUntil(death.signal, remote, (error) => {
      if (isFatal(error)) die(error as Error)
    }),
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

/** Calls that reject when the worker dies; comlink's own would stay pending. */
function callsUntil<T extends object>(
  dead: AbortSignal,
  remote: Remote<T>,
  onError: (error: unknown) => void,
): RemoteApi<T> {
  const methods = remote as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>
  const call = async (key: string, args: unknown[]) => {
    dead.throwIfAborted()
    const result = await abortable(methods[key](...args), dead).catch((error: unknown) => {
      onError(error)
      throw error
    })
    if (result instanceof ReceivedIterable) result.rejectWhen(dead)
    return result
  }
  return new Proxy({} as RemoteApi<T>, {
    get: (_target, key) =>
      // With a `then`, awaiting the API would call the worker.
      key === 'then' || typeof key === 'symbol' ? undefined : (...args: unknown[]) => call(key, args),
  })
}
