/**
 * Where the elements of checkpoint tensors may lie in an initializer.
 *
 * @module
 */
import { type Placement, tilingOf } from '../../format/index.ts'
import type { Layout } from '../proto/initializer_data.ts'

/** Orders in which a tensor of `shape` can fill an initializer of `dims`, the expected one first. */
export function layoutsOf(shape: readonly number[], dims: readonly number[], expected: Layout): Layout[] {
  const squeeze = (sizes: readonly number[]) => sizes.filter((size) => size !== 1).join()
  const layouts: Layout[] = []
  if (squeeze(shape) === squeeze(dims)) layouts.push('checkpoint')
  if (shape.length === 2 && dims.length === 2 && shape[0] === dims[1] && shape[1] === dims[0])
    layouts.push('transposed')
  return expected === 'transposed' ? layouts.reverse() : layouts
}

/** A tensor that fills an initializer. */
export function placementOf(tensor: string, shape: readonly number[], layout: Layout): Placement {
  const { rows, cols } = tilingOf(shape)
  return layout === 'checkpoint'
    ? { tensor, offset: 0, rowStride: cols, colStride: 1 }
    : { tensor, offset: 0, rowStride: 1, colStride: rows }
}

/** Tensors that lie one after another along the output dimension; undefined if they do not fill the initializer. */
export function fusedPlacements(
  tensors: readonly string[],
  shapes: readonly (readonly number[])[],
  rows: readonly number[],
  layout: Layout,
  dims: readonly number[],
): Placement[] | undefined {
  const total = rows.reduce((sum, count) => sum + count, 0)
  const inner = shapes[0].length === 2 ? shapes[0][1] : 1
  const filled = layout === 'transposed' ? [inner, total] : shapes[0].length === 2 ? [total, inner] : [total]
  if (filled.join() !== dims.join() || shapes.some((shape) => (shape[1] ?? 1) !== inner)) return undefined
  let start = 0
  return tensors.map((tensor, i) => {
    const offset = layout === 'transposed' ? start : start * inner
    start += rows[i]
    if (shapes[i].length === 1) return { tensor, offset, rowStride: rows[i], colStride: 1 }
    return layout === 'transposed'
      ? { tensor, offset, rowStride: 1, colStride: total }
      : { tensor, offset, rowStride: inner, colStride: 1 }
  })
}

/**
 * Whether a tensor lies in a buffer with these steps from row to row and from column to column: as it is, or
 * transposed. Undefined where it does neither.
 */
export function layoutIn(
  { rowStride, colStride }: Placement,
  shape: readonly number[],
  rowStep: number,
  colStep: number,
): Layout | undefined {
  const { rows, cols } = tilingOf(shape)
  const fits = (row: number, col: number) =>
    (rows === 1 || rowStride === row) && (cols === 1 || colStride === col)
  if (fits(rowStep, colStep)) return 'checkpoint'
  return fits(colStep, rowStep) ? 'transposed' : undefined
}
