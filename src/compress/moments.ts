/**
 * The first pass over a tensor: its moments, and the row and column norms that the balanced score divides by.
 *
 * @module
 */
import { tilingOf } from '../format/tiling.ts'
import type { RunJob, SliceScore } from './jobs.ts'
import { pipelined } from './pipeline.ts'
import { SLICES_AHEAD, slicesOf } from './slices.ts'
import type { TaskTensor } from './task_vector.ts'

/** Statistics of a tensor, or of several. */
export interface Moments {
  count: number
  nonzero: number
  mean: number
  /** Σ (tau − mean)². */
  m2: number
  sumSquares: number
}

const NO_MOMENTS: Moments = { count: 0, nonzero: 0, mean: 0, m2: 0, sumSquares: 0 }

/** The moments of a tensor, and its factors of the balanced score. */
export async function momentsOf(
  tensor: TaskTensor,
  run: RunJob,
  signal?: AbortSignal,
): Promise<{ moments: Moments; score: SliceScore }> {
  const { rows, cols } = tilingOf(tensor.shape)
  const rowSquares = new Float64Array(rows)
  const colSquares = new Float64Array(cols)
  let moments = NO_MOMENTS
  const work = pipelined(
    slicesOf(tensor.shape),
    () => 1,
    SLICES_AHEAD,
    (slice) => run('stats', { tensor, slice }, signal),
  )
  for await (const [slice, part] of work) {
    moments = addMoments(moments, { ...part, count: slice.rows * slice.cols })
    for (let r = 0; r < slice.rows; r++) rowSquares[slice.row + r] += part.rows[r]
    for (let c = 0; c < slice.cols; c++) colSquares[slice.col + c] += part.cols[c]
  }
  return { moments, score: { rows: inverseRoots(rowSquares, cols), cols: inverseRoots(colSquares, rows) } }
}

/** Moments of both together (Chan, Golub & LeVeque 1979): exact where a difference of sums would cancel. */
export function addMoments(a: Moments, b: Moments): Moments {
  const count = a.count + b.count
  const delta = b.mean - a.mean
  return {
    count,
    nonzero: a.nonzero + b.nonzero,
    mean: a.mean + (delta * b.count) / count,
    m2: a.m2 + b.m2 + (delta * delta * a.count * b.count) / count,
    sumSquares: a.sumSquares + b.sumSquares,
  }
}

/**
 * 1 / √rms of rows or columns, from their sums of squares; 0 where nothing moved. Two square roots, because every
 * JavaScript engine rounds them the same way, which `**` does not promise.
 */
function inverseRoots(sums: Float64Array, count: number): Float32Array {
  return Float32Array.from(sums, (sum) => (sum === 0 ? 0 : 1 / Math.sqrt(Math.sqrt(sum / count))))
}

/** Whether a tensor has one long side: its rows and columns then tell nothing that an entry itself does not. */
export function isVector(shape: readonly number[]): boolean {
  const { rows, cols } = tilingOf(shape)
  return rows === 1 || cols === 1
}
