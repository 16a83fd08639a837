import { TritswapError } from '../errors.ts'
import type { ByteSource } from './source.ts'

/** Bytes in memory. */
export function memorySource(bytes: Uint8Array | ArrayBuffer, name = 'memory'): ByteSource {
  const all = bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes)
  return {
    name,
    size: async () => all.byteLength,
    async read(offset, length) {
      if (offset + length > all.byteLength) throw shortSource(name, offset, length, all.byteLength)
      return all.slice(offset, offset + length) as Uint8Array<ArrayBuffer>
    },
  }
}

/** Bytes of a `Blob` or `File`, read in slices. */
export function blobSource(blob: Blob, name = blob instanceof File ? blob.name : 'blob'): ByteSource {
  return {
    name,
    size: async () => blob.size,
    async read(offset, length, { signal } = {}) {
      signal?.throwIfAborted()
      if (offset + length > blob.size) throw shortSource(name, offset, length, blob.size)
      return new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer())
    },
  }
}

/** The error of any source that ends before the bytes asked for. */
export function shortSource(name: string, offset: number, length: number, size: number): TritswapError {
  return new TritswapError(
    'format',
    `Cannot read ${name}: bytes ${offset}–${offset + length} are needed but it ends at ${size}; it is truncated, fetch it again`,
    { fields: { name, offset, length, size } },
  )
}
