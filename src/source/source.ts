/**
 * Where bytes come from. Behaviour is added by wrapping a source (`withRetry(source)`, `withStream(source)`), not by
 * adding to it.
 *
 * @module
 */

export interface ReadOptions {
  signal?: AbortSignal
  /** `low` for prefetching: a hint to the network stack and to the queue of the fetch pool. */
  priority?: 'high' | 'low'
  /** Bypass every HTTP cache: for bytes that did not match their hash. */
  fresh?: boolean
}

export interface StreamOptions extends ReadOptions {
  /** Where to stop; the end of the source by default. */
  end?: number
}

/** Random access to a named run of bytes. */
export interface ByteSource {
  /** For messages: a URL, a file name, or `memory`. */
  readonly name: string
  /**
   * Bytes `[offset, offset + length)`, exactly `length` of them.
   * @throws {TritswapError} `network` when they cannot be fetched, `format` when the source is shorter
   */
  read(offset: number, length: number, options?: ReadOptions): Promise<Uint8Array<ArrayBuffer>>
  /** Total bytes, or undefined where the source cannot know without reading. */
  size(options?: ReadOptions): Promise<number | undefined>
  /**
   * The bytes from `offset` on, in pieces as they arrive, by one request. Absent where `read` costs no request. Ends at
   * `end` or at the end of the source, whichever comes first (a source that is not `seekable` goes on past `end`);
   * returning early ends the request.
   */
  stream?(offset: number, options?: StreamOptions): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void>
  /** False once it is known that the source can only be read from its start: the server ignores Range. */
  readonly seekable?: boolean
}
