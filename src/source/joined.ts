import { shortSource } from './memory.ts'
import type { ByteSource, StreamOptions } from './source.ts'
import { collect } from './stream.ts'

/** A part of a file that lies in several. */
export interface FilePart {
  source: ByteSource
  bytes: number
}

/**
 * One file out of the parts that it was cut into, for hosts that take no large files.
 * @param name - of the whole, for messages
 */
export function joinedSource(name: string, parts: readonly FilePart[]): ByteSource {
  const size = parts.reduce((sum, { bytes }) => sum + bytes, 0)
  const isSeekable = () => {
    const known = parts.map(({ source }) => source.seekable)
    return known.includes(false) ? false : known.find((seekable) => seekable !== undefined)
  }

  async function* stream(offset: number, options: StreamOptions = {}) {
    let start = 0
    let at = offset
    for (const { source, bytes } of parts) {
      const partEnd = start + bytes
      // A source that cannot be read from the middle goes on past the end that was asked for.
      const end = isSeekable() === false ? partEnd : Math.min(options.end ?? size, partEnd)
      if (at < end) {
        for await (const piece of piecesOf(source, at - start, { ...options, end: end - start })) {
          const own = piece.subarray(0, partEnd - at)
          at += own.length
          yield own
          if (at === partEnd) break
        }
        if (at < end) throw shortSource(source.name, 0, bytes, at - start)
      }
      start = partEnd
    }
  }

  return {
    name,
    size: async () => size,
    get seekable() {
      return isSeekable()
    },
    read: (offset, length, options) =>
      collect(stream(offset, { ...options, end: offset + length }), name, offset, length),
    stream: parts.some(({ source }) => source.stream) ? stream : undefined,
  }
}

async function* piecesOf(source: ByteSource, offset: number, options: StreamOptions & { end: number }) {
  if (source.stream) yield* source.stream(offset, options)
  else yield await source.read(offset, options.end - offset, options)
}
