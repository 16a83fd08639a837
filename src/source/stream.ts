import { shortSource } from './memory.ts'
import type { ByteSource, ReadOptions, StreamOptions } from './source.ts'

/** Exactly `length` bytes of a stream; `name` and `offset` are for the error of one that is shorter. */
export async function collect(
  pieces: AsyncIterable<Uint8Array<ArrayBuffer>>,
  name: string,
  offset: number,
  length: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length)
  let filled = 0
  if (length === 0) return bytes
  for await (const piece of pieces) {
    const part = piece.subarray(0, length - filled)
    bytes.set(part, filled)
    filled += part.length
    if (filled === length) return bytes
  }
  throw shortSource(name, offset, length, offset + filled)
}

export interface StreamedSource extends ByteSource {
  /** Offset of the open stream: a read from here costs no request. Undefined when none is open. */
  readonly position: number | undefined
  /** Ends the open request, if there is one. */
  close(): Promise<void>
}

/**
 * Serves reads that go forward from one open stream, so the head and all chunks of a file cost one request. A read
 * elsewhere starts a new request, unless the source can only be read from its start: there it skips ahead. Reads must
 * not overlap in time.
 */
export function withStream(source: ByteSource, options: StreamOptions = {}): StreamedSource {
  if (!source.stream) return { ...pass(source), position: undefined, close: async () => {} }
  let pieces: AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> | undefined
  /** What is left of the last piece after the last read, and its offset in the source. */
  let rest = new Uint8Array(0)
  let at = 0

  async function close() {
    const open = pieces
    pieces = undefined
    rest = new Uint8Array(0)
    await open?.return()
  }

  /** The next bytes, at most `most`; undefined at the end of the stream. */
  async function next(most: number) {
    while (rest.length === 0) {
      const step = await pieces!.next()
      if (step.done) return undefined
      rest = step.value
    }
    const part = rest.subarray(0, most)
    rest = rest.subarray(part.length)
    at += part.length
    return part
  }

  return {
    ...pass(source),
    get seekable() {
      return source.seekable
    },
    get position() {
      return pieces && at
    },
    async read(offset, length, readOptions: ReadOptions = {}) {
      if (readOptions.fresh) return source.read(offset, length, { ...options, ...readOptions })
      const ahead = offset - at
      if (!pieces || ahead < 0 || (ahead > 0 && source.seekable !== false)) {
        await close()
        pieces = source.stream!(offset, { ...options, ...readOptions })
        at = offset
      }
      try {
        while (at < offset) if (!(await next(offset - at))) throw shortSource(source.name, offset, length, at)
        const bytes = new Uint8Array(length)
        let opened = offset
        for (let filled = 0; filled < length; ) {
          const part = await next(length - filled)
          if (part) {
            bytes.set(part, filled)
            filled += part.length
          } else if (at > opened && source.seekable !== false && (await source.size()) === undefined) {
            // A server that does not tell the size may have ended early: a request from here shows whether there is more.
            pieces = source.stream!(at, { ...options, ...readOptions })
            opened = at
          } else {
            throw shortSource(source.name, offset, length, at)
          }
        }
        return bytes
      } catch (error) {
        await close()
        throw error
      }
    },
    close,
  }
}

function pass(source: ByteSource): ByteSource {
  return {
    name: source.name,
    read: (offset, length, options) => source.read(offset, length, options),
    size: (options) => source.size(options),
  }
}
