import { type Endpoint, expose } from 'comlink'
import { release } from './arguments.ts'
import { isAsyncIterable, ServedIterable } from './iterables.ts'
import { holdLock } from './liveness.ts'
import { installTransferHandlers } from './transfer_handlers.ts'

/**
 * Exposes the methods of `api` to the other side. Signals among the arguments are good until the call settles, or until
 * the async iterable that it returned ends; callbacks for as long as the method holds on to them.
 */
export function serve<T extends object>(
  api: T,
  endpoint: Endpoint = globalThis as unknown as Endpoint,
): void {
  installTransferHandlers()
  /** Resolves once the caller would notice this thread's death: no call starts before. */
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
  holdLock(endpoint, (held) => {
    alive = held
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
  if (isAsyncIterable(result)) return new ServedIterable(result, releaseSignals)
  releaseSignals()
  return result
}
