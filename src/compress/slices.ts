import { BLOCK_WEIGHTS } from '../format/limits.ts'
import { tilingOf } from '../format/tiling.ts'

/**
 * A rectangle of a tensor, seen as the matrix of `tilingOf`: whole tiles, so that its blocks are its own. Tensors
 * are worked on slice by slice, several at once, and never held whole.
 */
export interface Slice {
  row: number
  col: number
  rows: number
  cols: number
}

/** Weights of one slice, at most: 2 MB in f32, enough work to outweigh the messages it takes. */
const SLICE_WEIGHTS = 2 ** 19

/** Slices of one tensor that are in work at once. */
export const SLICES_AHEAD = 8

/**
 * The slices of a tensor in block order. They depend on the shape alone, so sums over them come out the same on any
 * number of threads.
 */
export function slicesOf(shape: readonly number[]): Slice[] {
  const { rows, cols, tileRows, tileCols } = tilingOf(shape)
  const band = tileRows * cols
  const height = Math.max(1, Math.floor(SLICE_WEIGHTS / band)) * tileRows
  const width = band <= SLICE_WEIGHTS ? cols : Math.floor(SLICE_WEIGHTS / BLOCK_WEIGHTS) * tileCols
  const slices: Slice[] = []
  for (let row = 0; row < rows; row += height) {
    for (let col = 0; col < cols; col += width) {
      slices.push({ row, col, rows: Math.min(height, rows - row), cols: Math.min(width, cols - col) })
    }
  }
  return slices
}

/** A run of elements in flat order, as one slice of the tensor seen as a vector. */
export function flatSlices(weights: number): Slice[] {
  const slices: Slice[] = []
  for (let col = 0; col < weights; col += SLICE_WEIGHTS) {
    slices.push({ row: 0, col, rows: 1, cols: Math.min(SLICE_WEIGHTS, weights - col) })
  }
  return slices
}
