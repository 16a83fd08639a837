/**
 * The small files that a base needs besides its weights: manifest, configuration, tokenizer, graph. No hash authenticates
 * them, so they are fetched anew each time; copies are stored for when the server is out of reach.
 *
 * @module
 */
import { isAbortError, isTritswapError } from '../errors.ts'
import { cacheStorage } from './cache_storage.ts'

/** Name of the cache that holds the copies. */
export const COPIES_CACHE = 'tritswap/files'

/**
 * When to use a copy: `unreachable`, if the server does not answer; `first`, without asking the server, for files that
 * belong to another copy; `never`, for files that belong to one that the server just sent.
 */
export type UseOfCopies = 'never' | 'unreachable' | 'first'

const copies = new WeakSet<Response>()

/** Whether {@link fileWithCopy} answered with a copy. */
export const isCopy = (response: Response): boolean => copies.has(response)

/**
 * Fetches a file and stores a copy of it, or answers with the copy.
 *
 * @param url - absolute
 * @param get - fetches the file; throws if the server does not answer
 * @param storage - for tests
 * @throws what `get` throws, if there is no copy to use
 */
export async function fileWithCopy(
  url: string,
  use: UseOfCopies,
  get: () => Promise<Response>,
  storage: CacheStorage | undefined = cacheStorage(),
): Promise<Response> {
  // In private modes the object exists but every call rejects.
  const cache = await storage?.open(COPIES_CACHE).catch(() => undefined)
  const copy = use === 'never' ? undefined : await cache?.match(url).catch(() => undefined)
  if (copy) copies.add(copy)
  if (copy && (use === 'first' || globalThis.navigator?.onLine === false)) return copy
  let response: Response
  try {
    response = await get()
  } catch (error) {
    if (copy === undefined || isAbortError(error) || isRefusal(error)) throw error
    return copy
  }
  // Not awaited: without room for a copy the file is still good.
  if (response.status === 200) cache?.put(url, response.clone()).catch(() => {})
  return response
}

/** The server answered, or the error is not about the network at all. */
function isRefusal(error: unknown): boolean {
  return isTritswapError(error) && (error.tag !== 'network' || error.fields.status !== undefined)
}
