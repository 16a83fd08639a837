/**
 * Where bytes come from. A source is never grown: behaviour is added by wrapping it
 * (`withRetry(source)`, `withStream(source)`).
 *
 * @module
 */

export interface ReadOptions {
  signal?: AbortSignal
  /** `low` for prefetching: a hint to the network stack and to our own queue. */
  priority?: 'high' | 'low'
  /** Past every HTTP cache on the way: for bytes that did not have their hash. */
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
   * @throws {TritswapError} `network` when they cannot be had, `format` when the source is shorter.
   */
  read(offset: number, length: number, options?: ReadOptions): Promise<Uint8Array<ArrayBuffer>>
  /** Total bytes, or undefined where the source cannot know without reading. */
  size(options?: ReadOptions): Promise<number | undefined>
  /**
   * The bytes from `offset` on, in pieces as they arrive, by one request. Absent where `read` costs no request.
   * Ends at `end` or where the source ends, whichever comes first (a source that is not `seekable` goes on past
   * `end`); returning early ends the request.
   */
  stream?(offset: number, options?: StreamOptions): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void>
  /** False once it is known that bytes can be had from the start on only: a server that ignores Range. */
  readonly seekable?: boolean
}
