import { shaderConstants } from '../../../src/gpu/shader_constants.ts'
import type { Target } from './target.ts'

const { TILE } = shaderConstants('low_rank', ['TILE'])

/** `LowRank` of shaders/low_rank.wgsl. */
export interface LowRank {
  rows: number
  cols: number
  offset: number
  row_stride: number
  col_stride: number
  rank: number
  first_tile: number
  end_tile: number
  left: number
  right: number
  row_scale: number
  row_group: number
  col_scale: number
  col_group: number
}

/** Twin of shaders/low_rank.wgsl, in f64 where the device may contract or reorder: equal within f32 rounding. */
export function lowRank(params: LowRank, target: Target, factors: Float32Array): void {
  const { rows, cols, rank, left, right } = params
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++) {
      const tile = Math.floor(row / TILE) * Math.ceil(cols / TILE) + Math.floor(col / TILE)
      if (tile < params.first_tile || tile >= params.end_tile) continue
      const element = params.offset + row * params.row_stride + col * params.col_stride
      let value = target.valueOf(target.load(element))
      if (params.row_group > 0) value *= 1 + factors[params.row_scale + Math.floor(row / params.row_group)]
      if (params.col_group > 0) value *= 1 + factors[params.col_scale + Math.floor(col / params.col_group)]
      for (let k = 0; k < rank; k++) value += factors[left + row * rank + k] * factors[right + k * cols + col]
      target.store(element, target.rawOf(value))
    }
  }
}
