import { abortError, isTritswapError } from '../errors.ts'
import type { ByteSource, StreamOptions } from './source.ts'
import { collect } from './stream.ts'

export interface RetryPolicy {
  /** Tries in a row without progress, after which the error is passed on. */
  attempts: number
  /** Wait before the second try; doubles with each further one, and half of it is random. */
  baseMs: number
  /** Longest wait. If a server asks for more with `Retry-After`, the error is passed on. */
  maxMs: number
  /** This many bytes count as progress: the count of tries starts anew. */
  progressBytes: number
  /** For tests. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
  random(): number
  onRetry?(error: unknown, waitMs: number): void
}

const DEFAULT_RETRY: RetryPolicy = {
  attempts: 6,
  baseMs: 500,
  maxMs: 30_000,
  progressBytes: 1 << 16,
  sleep,
  random: Math.random,
}

/**
 * Tries again after errors that may pass: those whose fields say `retryable`. A stream goes on at the byte it had
 * reached. All other errors (404, a bad hash, an abort) are passed on at once.
 */
export function withRetry(source: ByteSource, policy: Partial<RetryPolicy> = {}): ByteSource {
  const { attempts, baseMs, maxMs, progressBytes, sleep, random, onRetry } = { ...DEFAULT_RETRY, ...policy }

  /** Waits before try number `failures + 1`, or throws `error` if there will be none. */
  async function pause(error: unknown, failures: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted()
    if (!isTritswapError(error) || error.fields.retryable !== true || failures >= attempts) throw error
    const asked = typeof error.fields.retryAfterMs === 'number' ? error.fields.retryAfterMs : 0
    if (asked > maxMs) throw error
    const backoff = Math.min(maxMs, baseMs * 2 ** (failures - 1))
    const wait = Math.max(asked, backoff / 2 + (backoff / 2) * random())
    onRetry?.(error, wait)
    await sleep(wait, signal)
  }

  async function* stream(offset: number, options: StreamOptions = {}) {
    let at = offset
    let failures = 0
    let lastFailureAt = offset
    for (;;) {
      try {
        for await (const piece of source.stream!(at, options)) {
          at += piece.length
          yield piece
        }
        return
      } catch (error) {
        if (at - lastFailureAt >= progressBytes) failures = 0
        lastFailureAt = at
        failures++
        await pause(error, failures, options.signal)
      }
    }
  }

  return {
    name: source.name,
    get seekable() {
      return source.seekable
    },
    size: (options) => source.size(options),
    async read(offset, length, options = {}) {
      if (source.stream)
        return collect(stream(offset, { ...options, end: offset + length }), source.name, offset, length)
      for (let failures = 1; ; failures++) {
        try {
          return await source.read(offset, length, options)
        } catch (error) {
          await pause(error, failures, options.signal)
        }
      }
    },
    stream: source.stream && stream,
  }
}

/** Resolves after `ms`, rejects when the signal aborts. */
function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = () => {
      clearTimeout(timer)
      reject(abortError(signal))
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort)
      resolve()
    }, ms)
    if (signal?.aborted) onAbort()
    else signal?.addEventListener('abort', onAbort, { once: true })
  })
}
