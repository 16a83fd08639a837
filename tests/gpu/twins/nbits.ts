import { nbitsReader as readerOf } from '../../../src/format/codecs/nbits_decode.ts'
import { shaderConstants } from '../../../src/gpu/shader_constants.ts'

const { ZEROS_DEFAULT, ZEROS_PACKED, ZEROS_FLOAT, ZEROS_MINIMUM } = shaderConstants('nbits_zeros', [
  'ZEROS_DEFAULT',
  'ZEROS_PACKED',
  'ZEROS_FLOAT',
  'ZEROS_MINIMUM',
])
export const ZERO_POINTS = [ZEROS_DEFAULT, ZEROS_PACKED, ZEROS_FLOAT, ZEROS_MINIMUM]

/** `NBits` of shaders/shared/nbits.wgsl. */
export interface NBits {
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

/** The buffers of shaders/shared/nbits.wgsl. */
export interface NBitsWords {
  quantized: Uint32Array
  scales: Uint32Array
  zeros: Uint32Array
}

/** Twin of shaders/shared/nbits.wgsl: reads weights by row and column. */
export function nbitsReader(
  { cols, bits, block_size, half, zero_points, quantized_at, scales_at, zeros_at }: NBits,
  { quantized, scales, zeros }: NBitsWords,
): (row: number, col: number) => number {
  const from = ({ buffer, byteOffset, byteLength }: Uint32Array, word: number) =>
    new Uint8Array(buffer, byteOffset + word * 4, byteLength - word * 4)
  return readerOf(
    {
      bits: bits as 2 | 4 | 8,
      blockSize: block_size,
      dtype: half === 1 ? 'f16' : 'f32',
      minimums: zero_points === ZEROS_MINIMUM,
      zeroPoints: zero_points === ZEROS_PACKED ? 'packed' : zero_points === ZEROS_FLOAT ? 'float' : undefined,
    },
    cols,
    {
      weights: from(quantized, quantized_at),
      scales: from(scales, scales_at),
      zeroPoints: from(zeros, zeros_at),
      minimums: from(zeros, zeros_at),
    },
  )
}
