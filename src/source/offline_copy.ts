/**
 * The small files that a base needs beside its weights: manifest, configuration, tokenizer, graph. Nothing but their
 * server says what they are, so they are fetched anew each time; copies are kept for when the server is out of reach.
 *
 * @module
 */
import { isAbortError, isTritswapError } from '../errors.ts'

/** Name of their cache. */
export const COPIES_CACHE = 'tritswap/files'

/**
 * When a copy is taken: `unreachable` instead of the file of a server that does not answer; `first` without asking,
 * for what belongs to a copy; `never`, for what belongs to a file that the server just sent.
 */
export type UseOfCopies = 'never' | 'unreachable' | 'first'

const copies = new WeakSet<Response>()

/** Whether {@link fileWithCopy} took a copy. */
export const isCopy = (response: Response): boolean => copies.has(response)

/**
 * A file, of which a copy is kept.
 *
 * @param url - absolute
 * @param get - fetches it; throws where nobody answers
 * @param storage - for tests
 * @throws what `get` throws, where there is no copy to be taken
 */
export async function fileWithCopy(
  url: string,
  use: UseOfCopies,
  get: () => Promise<Response>,
  storage: CacheStorage | undefined = globalThis.caches,
): Promise<Response> {
  // Private modes have the object and refuse to use it.
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
  // Nobody waits for the copy, and nobody minds if there is no room for it.
  if (response.status === 200) cache?.put(url, response.clone()).catch(() => {})
  return response
}

function isRefusal(error: unknown): boolean {
  return isTritswapError(error) && (error.tag !== 'network' || error.fields.status !== undefined)
}
