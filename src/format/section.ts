import { TritswapError } from '../errors.ts'
import type { ByteSource, ReadOptions } from '../source/source.ts'
import { decodeDense } from './codecs/dense.ts'
import { decodeBlocks } from './codecs/nbits.ts'
import { decodeTernary, type TernarySection } from './codecs/ternary.ts'
import { chunkLength, type TritHead, verifyChunk } from './head.ts'
import type { TernaryTensor, TritTensor } from './table.ts'
import { weightsOf } from './tiling.ts'

/**
 * Reads one tensor's section, fetching and verifying only the chunks it lies in.
 * @throws {TritswapError} `integrity` if a chunk is not what the head promises, or what the source throws
 */
export async function readSection(
  source: ByteSource,
  head: TritHead,
  tensor: TritTensor,
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
  // From the end, so that memory for a long section is taken only once its last chunk is there and true.
  const tail = await read(last)
  const section = new Uint8Array(tensor.bytes)
  section.set(tail, tensor.bytes - tail.length)
  for (let index = first; index < last; index++) {
    section.set(await read(index), Math.max(0, index * head.chunkBytes - tensor.offset))
  }
  return section
}

/**
 * The values of a tensor in flat row-major order, whatever its codec; a ternary one as 0 and ±scale.
 * @throws {TritswapError} `format` for a section that is not what the table says
 */
export function decodeValues(
  tensor: TritTensor,
  section: Uint8Array<ArrayBuffer>,
): Float32Array<ArrayBuffer> {
  const weights = weightsOf(tensor.shape)
  if (tensor.codec === 'dense') return decodeDense(section, weights, tensor.dtype)
  if (tensor.codec === 'blocks') return decodeBlocks(section, tensor.shape, tensor)
  const { indices, negative } = decodeTernary(tensor.shape, ternarySection(tensor, section))
  const values = new Float32Array(weights)
  for (const [i, index] of indices.entries()) values[index] = negative[i] === 1 ? -tensor.scale : tensor.scale
  return values
}

/**
 * A ternary tensor's section as the decoder takes it.
 * @throws {TritswapError} `format` unless `bytes` are as many as the table says
 */
export function ternarySection(tensor: TernaryTensor, bytes: Uint8Array<ArrayBuffer>): TernarySection {
  const { kept, m, lengthMin, lengthBits } = tensor
  if (bytes.byteLength !== tensor.bytes) {
    throw new TritswapError(
      'format',
      `Cannot decode ${tensor.name}: expected a section of ${tensor.bytes} bytes, found ${bytes.byteLength}`,
      { fields: { tensor: tensor.name, expected: tensor.bytes, found: bytes.byteLength } },
    )
  }
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice()
  return {
    kept,
    m,
    lengthMin,
    lengthBits,
    words: new Uint32Array(aligned.buffer, aligned.byteOffset, tensor.bytes / 4),
  }
}
