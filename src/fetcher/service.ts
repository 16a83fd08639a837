import { release } from '../rpc/index.ts'
import { type ChunkCache, openChunkCache } from '../source/cache.ts'
import { fetchFile } from './fetcher.ts'
import { MemoryChunks } from './memory_chunks.ts'
import type { FetchWorkerApi } from './protocol.ts'
import { portSink } from './send.ts'

/** The API of a fetch worker, for any thread: `worker.ts` serves it. */
export function fetchService(): FetchWorkerApi {
  const caches = new Map<number | undefined, ChunkCache>()
  const memory = new MemoryChunks()
  const cacheOf = (budget: number | undefined) => {
    if (budget === 0) return undefined
    const cache = caches.get(budget) ?? openChunkCache({ budget })
    caches.set(budget, cache)
    return cache
  }

  return {
    async fetch(
      request,
      port,
      { cacheBudget, retry, silenceMs, hub, priority },
      signal,
      onProgress,
      onWarning,
    ) {
      const cancelled = new AbortController()
      const onAbort = () => cancelled.abort(signal.reason)
      if (signal.aborted) onAbort()
      else signal.addEventListener('abort', onAbort, { once: true })
      const sink = port && portSink(port, cancelled.signal, () => cancelled.abort())
      try {
        return await fetchFile(request, {
          sink,
          cache: cacheOf(cacheBudget),
          memory,
          signal: cancelled.signal,
          priority,
          retry,
          http: { ...(silenceMs !== undefined && { silenceMs }), hub },
          onProgress,
          onWarning,
        })
      } catch (error) {
        sink?.end(error)
        throw error
      } finally {
        release(onProgress)
        release(onWarning)
      }
    },
    dropChunks: () => memory.clear(),
  }
}
