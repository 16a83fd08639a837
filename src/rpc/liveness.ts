/**
 * How a thread notices that another one ended without a word: the other holds a Web Lock for as long as it lives, and
 * the browser hands the lock on when it ends, however it ends.
 *
 * @module
 */
import type { Endpoint } from 'comlink'

/** Asks the other side to hold the lock of this name while it lives; sent back once it does. */
interface LivenessMessage {
  tritswapLiveness: string
}

function isLiveness(data: unknown): data is LivenessMessage {
  return typeof data === 'object' && data !== null && 'tritswapLiveness' in data
}

const hasLocks = () => globalThis.navigator?.locks !== undefined

/**
 * Holds the lock that the other side asks for.
 * @param onAsked - called with a promise that resolves once the lock is held (or cannot be had)
 */
export function holdLock(endpoint: Endpoint, onAsked: (held: Promise<void>) => void): void {
  endpoint.addEventListener('message', (event) => {
    const { data } = event as MessageEvent<unknown>
    if (!isLiveness(data) || !hasLocks()) return
    const held = new Promise<void>((resolve) => {
      navigator.locks
        .request(data.tritswapLiveness, () => {
          endpoint.postMessage(data)
          resolve()
          return new Promise(() => {})
        })
        .catch(() => resolve())
    })
    onAsked(held)
  })
}

/** Calls `onEnd` when the thread of `worker` has ended, until `signal` aborts; does nothing without Web Locks. */
export function watchLock(worker: Worker, name: string, onEnd: () => void, signal: AbortSignal): void {
  if (!hasLocks()) return
  const lock = `tritswap-${name}-${crypto.randomUUID()}`
  worker.addEventListener('message', ({ data }: MessageEvent<unknown>) => {
    if (!isLiveness(data) || data.tritswapLiveness !== lock) return
    navigator.locks.request(lock, { signal }, onEnd).catch(() => {})
  })
  worker.postMessage({ tritswapLiveness: lock } satisfies LivenessMessage)
}
