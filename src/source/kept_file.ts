/**
 * Small files that something authenticates: registries, their pages and indexes. A copy of what was found good is kept, and
 * used where the server is out of reach.
 *
 * @module
 */
import { nextTask } from '../async/in_steps.ts'
import { isTritswapError, TritswapError } from '../errors.ts'
import { cacheStorage } from './cache_storage.ts'
import { type HttpOptions, httpSource } from './http.ts'
import { COPIES_CACHE } from './offline_copy.ts'
import { type RetryPolicy, withRetry } from './retry.ts'

export interface FileOptions extends HttpOptions {
  signal?: AbortSignal
  retry?: Partial<RetryPolicy>
  /** Keep a copy, and use it where the server is out of reach. */
  keep?: boolean
}

export interface KeptFile {
  bytes: Uint8Array<ArrayBuffer>
  /** The server is out of reach: these are the bytes that were kept. */
  isCopy: boolean
}

/**
 * Fetches a file.
 * @param url - absolute
 * @param limit - bytes that it may have
 * @param check - throws for bytes that must not be used; copies are checked as well
 * @throws {TritswapError} `network`, `limit`; what `check` throws
 */
export async function fetchKept(
  url: string,
  limit: number,
  check: (bytes: Uint8Array<ArrayBuffer>) => Promise<void> | void,
  { keep = false, ...options }: FileOptions = {},
): Promise<KeptFile> {
  // In private modes the object exists but every call rejects.
  const cache = keep
    ? await cacheStorage()
        ?.open(COPIES_CACHE)
        .catch(() => undefined)
    : undefined
  const copy = async (): Promise<KeptFile | undefined> => {
    const response = await cache?.match(url).catch(() => undefined)
    if (response === undefined) return undefined
    const bytes = new Uint8Array(await response.arrayBuffer())
    await check(bytes)
    return { bytes, isCopy: true }
  }
  if (globalThis.navigator?.onLine === false) {
    const kept = await copy()
    if (kept !== undefined) return kept
  }
  let file: Blob
  try {
    file = await fetched(url, limit, options)
  } catch (error) {
    const isAway = isTritswapError(error, 'network') && error.fields.status === undefined
    const kept = isAway ? await copy() : undefined
    if (kept === undefined) throw error
    return kept
  }
  const bytes = new Uint8Array(await file.arrayBuffer())
  await check(bytes)
  // What copies 20 MB takes a while: each such step has a task of its own, so that the page is not held up.
  await nextTask()
  // Not awaited: without room for a copy the file is still good.
  cache?.put(url, new Response(file)).catch(() => {})
  await nextTask()
  return { bytes, isCopy: false }
}

async function fetched(url: string, limit: number, { signal, retry, ...http }: FileOptions): Promise<Blob> {
  const pieces: Uint8Array<ArrayBuffer>[] = []
  let length = 0
  for await (const piece of withRetry(httpSource(url, http), retry).stream!(0, { signal })) {
    pieces.push(piece)
    length += piece.length
    if (length > limit) {
      throw new TritswapError('limit', `Cannot read ${url}: it is over the limit of ${limit} bytes`, {
        fields: { url, limit },
      })
    }
  }
  return new Blob(pieces)
}
