import { blocksReader } from '../../../src/format/codecs/nbits.ts'

/** `Blocks` of shaders/shared/blocks.wgsl. */
export interface Blocks {
  rows: number
  cols: number
  bits: number
  block_size: number
  half: number
  zero_points: number
  quantized_at: number
  scales_at: number
  zeros_at: number
}

/** The buffers of shaders/shared/blocks.wgsl. */
export interface BlocksWords {
  quantized: Uint32Array
  scales: Uint32Array
  zeros: Uint32Array
}

/** Twin of shaders/shared/blocks.wgsl: reads weights by row and column. */
export function blocksOf(
  { cols, bits, block_size, half, zero_points, quantized_at, scales_at, zeros_at }: Blocks,
  { quantized, scales, zeros }: BlocksWords,
): (row: number, col: number) => number {
  const from = ({ buffer, byteOffset, byteLength }: Uint32Array, word: number) =>
    new Uint8Array(buffer, byteOffset + word * 4, byteLength - word * 4)
  return blocksReader(
    {
      bits: bits as 2 | 4 | 8,
      blockSize: block_size,
      dtype: half === 1 ? 'f16' : 'f32',
      zeroPoints: ([undefined, 'packed', 'float'] as const)[zero_points],
    },
    cols,
    {
      weights: from(quantized, quantized_at),
      scales: from(scales, scales_at),
      zeroPoints: from(zeros, zeros_at),
    },
  )
}
