import { sha256, toHex } from '../format/sha256.ts'
import type { ByteSource } from '../source/source.ts'

/** Web Crypto hashes only what is in memory at once. */
const MAX_BYTES = 256 << 20

/** SHA-256 of a file as `sha256sum` gives it, or undefined for one that is too large to be held. */
export async function sha256OfSource(source: ByteSource): Promise<string | undefined> {
  const size = await source.size()
  if (size === undefined || size > MAX_BYTES) return undefined
  return toHex(await sha256(await source.read(0, size)))
}
