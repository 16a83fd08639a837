import { chunkLength, parseHead, readHead, type TritHead, verifyChunk } from '../format/index.ts'
import { openChunkCache } from '../source/cache.ts'
import { httpSource } from '../source/http.ts'
import { withRetry } from '../source/retry.ts'
import type { ByteSource, ReadOptions } from '../source/source.ts'

/** Chunks held at once: a pass over a tensor reads its rows one after the other, and several tensors are in work. */
const CHUNKS_HELD = 512

/**
 * A `.trit` file of this site for reads here and there: chunks come from the cache that the fetch workers filled, else
 * from the network, and each is compared with its hash before any of it is used.
 * @throws {TritswapError} `integrity`, `format`, `network`
 */
export async function openVerified(
  url: string,
  rootHash: string,
  { signal }: ReadOptions = {},
): Promise<{ head: TritHead; source: ByteSource }> {
  const remote = withRetry(httpSource(url))
  const cached = openChunkCache().open(rootHash)
  const kept = await cached.head().catch(() => undefined)
  const head =
    (kept && (await parseHead(kept, url, rootHash).catch(() => undefined))) ??
    (await readHead(remote, { signal, rootHash }))

  const held = new Map<number, Promise<Uint8Array<ArrayBuffer>>>()
  async function fetchChunk(index: number, options?: ReadOptions): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = await cached.read(index).catch(() => undefined)
    if (bytes !== undefined) {
      const good = await verifyChunk(head, index, bytes, url).then(
        () => true,
        () => false,
      )
      if (good) return bytes
    }
    const offset = head.headBytes + index * head.chunkBytes
    const fetched = await remote.read(offset, chunkLength(head, index), options)
    await verifyChunk(head, index, fetched, url)
    return fetched
  }
  function chunk(index: number, options?: ReadOptions): Promise<Uint8Array<ArrayBuffer>> {
    const known = held.get(index)
    const bytes = known ?? fetchChunk(index, options)
    // Read again, it is the last to go.
    held.delete(index)
    held.set(index, bytes)
    bytes.catch(() => held.delete(index))
    if (held.size > CHUNKS_HELD) held.delete(held.keys().next().value as number)
    return bytes
  }

  return {
    head,
    source: {
      name: url,
      size: async () => head.headBytes + head.payloadBytes,
      async read(offset, length, options) {
        const bytes = new Uint8Array(length)
        const from = offset - head.headBytes
        const first = Math.floor(from / head.chunkBytes)
        const last = Math.floor((from + length - 1) / head.chunkBytes)
        for (let index = first; index <= last && length > 0; index++) {
          const start = index * head.chunkBytes
          const part = (await chunk(index, options)).subarray(
            Math.max(0, from - start),
            from + length - start,
          )
          bytes.set(part, Math.max(0, start - from))
        }
        return bytes
      },
    },
  }
}
