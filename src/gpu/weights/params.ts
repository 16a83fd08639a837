import { type NBitsCode, nbitsLayout } from '../../format/codecs/nbits_decode.ts'
import { tilingOf } from '../../format/index.ts'
import type { ElementPlacement } from '../job.ts'
import { shaderConstants } from '../shader_constants.ts'

const { ZEROS_DEFAULT, ZEROS_PACKED, ZEROS_FLOAT, ZEROS_MINIMUM } = shaderConstants('nbits_zeros', [
  'ZEROS_DEFAULT',
  'ZEROS_PACKED',
  'ZEROS_FLOAT',
  'ZEROS_MINIMUM',
])

/** `Placement` of shaders/shared/placement.wgsl. */
export function placementParams(
  shape: readonly number[],
  { offset, rowStride, colStride }: ElementPlacement,
) {
  return { cols: tilingOf(shape).cols, offset, row_stride: rowStride, col_stride: colStride }
}

/**
 * `NBits` of shaders/shared/nbits.wgsl for a section in one buffer.
 * @param first - word of the buffer that it starts at
 */
export function nbitsParams(shape: readonly number[], code: NBitsCode, first = 0) {
  const { rows, cols, components } = nbitsLayout(shape, code)
  const { bits, blockSize, dtype } = code
  return {
    rows,
    cols,
    bits,
    block_size: blockSize,
    half: dtype === 'f16' ? 1 : 0,
    zero_points: zerosOf(code),
    quantized_at: first + components.weights.offset / 4,
    scales_at: first + components.scales.offset / 4,
    zeros_at: first + ((components.minimums ?? components.zeroPoints)?.offset ?? 0) / 4,
  }
}

function zerosOf({ zeroPoints, minimums }: NBitsCode): number {
  if (minimums) return ZEROS_MINIMUM
  if (zeroPoints === undefined) return ZEROS_DEFAULT
  return zeroPoints === 'packed' ? ZEROS_PACKED : ZEROS_FLOAT
}
