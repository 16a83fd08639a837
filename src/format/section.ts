import type { ByteSource, ReadOptions } from '../source/source.ts'
import { chunkLength, type TritHead, verifyChunk } from './head.ts'
import type { CodedTensor } from './tensor.ts'

/**
 * Reads one tensor's section, fetching and verifying only the chunks it lies in.
 * @throws {TritswapError} `integrity` if a chunk is not what the head promises, or what the source throws
 */
export async function readSection(
  source: ByteSource,
  head: TritHead,
  tensor: Pick<CodedTensor, 'offset' | 'bytes'>,
  options?: ReadOptions,
): Promise<Uint8Array<ArrayBuffer>> {
  const end = tensor.offset + tensor.bytes
  const first = Math.floor(tensor.offset / head.chunkBytes)
  const last = Math.floor((end - 1) / head.chunkBytes)
  if (tensor.bytes === 0) return new Uint8Array(0)
  /** What chunk `index` holds of the section. */
  const read = async (index: number) => {
    const chunk = await source.read(
      head.headBytes + index * head.chunkBytes,
      chunkLength(head, index),
      options,
    )
    await verifyChunk(head, index, chunk, source.name)
    const start = index * head.chunkBytes
    return chunk.subarray(Math.max(0, tensor.offset - start), Math.min(end - start, chunk.length))
  }
  // The last chunk first: memory for a long section is allocated only after that chunk has arrived and is verified.
  const tail = await read(last)
  const section = new Uint8Array(tensor.bytes)
  section.set(tail, tensor.bytes - tail.length)
  for (let index = first; index < last; index++) {
    section.set(await read(index), Math.max(0, index * head.chunkBytes - tensor.offset))
  }
  return section
}
