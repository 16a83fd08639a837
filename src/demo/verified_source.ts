import type { FetchRequest } from '../fetcher/protocol.ts'
import { chunkLength, parseHead, readHead, type TritHead, verifyChunk } from '../format/index.ts'
import { openChunkCache } from '../source/cache.ts'
import { openWhole } from '../source/open.ts'
import { withRetry } from '../source/retry.ts'
import type { ByteSource, ReadOptions } from '../source/source.ts'

/** Chunks in memory at once: several tensors are read at a time, each row by row. */
const MAX_CHUNKS = 512

/**
 * A `.trit` file of this site with random access. Chunks come from the cache that the fetch workers filled, else from the
 * network, and each is verified before any of it is used.
 * @throws {TritswapError} `integrity`, `format`, `network`
 */
export async function openVerified(
  url: string,
  rootHash: string,
  { signal, parts }: ReadOptions & Partial<Pick<FetchRequest, 'parts'>> = {},
): Promise<{ head: TritHead; source: ByteSource }> {
  const remote = withRetry(openWhole(url, parts))
  const cached = openChunkCache().open(rootHash)
  const cachedHead = await cached.head().catch(() => undefined)
  const head =
    (cachedHead && (await parseHead(cachedHead, url, rootHash).catch(() => undefined))) ??
    (await readHead(remote, { signal, rootHash }))

  const chunks = new Map<number, Promise<Uint8Array<ArrayBuffer>>>()
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
    const known = chunks.get(index)
    const bytes = known ?? fetchChunk(index, options)
    // Moves the chunk to the end: the one that was not used for longest goes first.
    chunks.delete(index)
    chunks.set(index, bytes)
    bytes.catch(() => chunks.delete(index))
    if (chunks.size > MAX_CHUNKS) chunks.delete(chunks.keys().next().value as number)
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
