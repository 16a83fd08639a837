import { sha256, toHex } from './sha256.ts'

/** One tensor of a checkpoint, as it lies in its file. */
export interface FingerprintEntry {
  name: string
  /** The checkpoint's own name of the type: `F16`, `BF16`, `F32`, … */
  dtype: string
  shape: readonly number[]
  /** {@link hashSlices} of its bytes. */
  hash: Uint8Array
}

/** Bytes that one inner hash covers: Web Crypto cannot hash a stream, and a tensor may not fit in memory. */
export const HASH_SLICE = 1 << 20

/** SHA-256 over the SHA-256 of every MiB of a tensor's bytes; feed it slices of {@link HASH_SLICE} in order. */
export async function hashSlices(slices: AsyncIterable<Uint8Array<ArrayBuffer>>): Promise<Uint8Array> {
  const hashes: number[] = []
  for await (const slice of slices) hashes.push(...(await sha256(slice)))
  return sha256(Uint8Array.from(hashes))
}

/**
 * SHA-256 of a checkpoint's content: independent of file layout, sharding and metadata. Lines
 * `name TAB dtype TAB d0,d1,… TAB hash LF`, sorted by name (code units), UTF-8.
 */
export async function fingerprintOf(entries: Iterable<FingerprintEntry>): Promise<string> {
  const lines = Array.from(
    entries,
    ({ name, dtype, shape, hash }) => `${name}\t${dtype}\t${shape.join(',')}\t${toHex(hash)}\n`,
  )
  return toHex(await sha256(new TextEncoder().encode(lines.sort((a, b) => (a < b ? -1 : 1)).join(''))))
}
