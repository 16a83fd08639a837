/**
 * Exact top-k without sorting and without holding the scores: a histogram of their high bits finds the bin that
 * the k-th largest lies in, one of the low bits in that bin finds its exact value, and entries equal to it are
 * taken in order until k are kept.
 *
 * @module
 */

import { HIGH_BITS, LOW_BITS, type RunJob, type SliceScore } from './jobs.ts'
import { pipelined } from './pipeline.ts'
import { type Slice, slicesOf } from './slices.ts'
import type { TaskTensor } from './task_vector.ts'

/** Slices asked for ahead of their turn. */
const JOBS_AHEAD = 32

/** A tensor that takes part in a selection. */
export interface Candidate {
  tensor: TaskTensor
  /** Factors of the balanced score, for the whole tensor. */
  score?: SliceScore
}

/** Which entries of one tensor are kept. */
export interface Selection {
  /** Scores (as bits) above this are kept. */
  threshold: number
  /** By slice: how many entries of each row that are equal to the threshold are kept too; absent means none. */
  quotas: (Uint32Array | undefined)[]
}

/** The factors of one slice. */
export function sliceScore(score: SliceScore | undefined, slice: Slice): SliceScore | undefined {
  return (
    score && {
      rows: score.rows.slice(slice.row, slice.row + slice.rows),
      cols: score.cols.slice(slice.col, slice.col + slice.cols),
    }
  )
}

/**
 * The `keep` largest scores among all candidates together. Ties: lower flat row-major index first, and earlier
 * tensors before later ones. Entries with tau = 0 are never kept, so fewer may come out.
 */
export async function selectLargest(
  candidates: readonly Candidate[],
  keep: number,
  run: RunJob,
  signal?: AbortSignal,
): Promise<Selection[]> {
  if (keep === 0) return candidates.map(({ tensor }) => ({ threshold: NOTHING, quotas: noQuotas(tensor) }))
  const work = candidates.flatMap(({ tensor, score }) =>
    slicesOf(tensor.shape).map((slice) => ({ tensor, score, slice })),
  )
  const jobOf = ({ tensor, score, slice }: (typeof work)[number]) => ({
    tensor,
    slice,
    score: sliceScore(score, slice),
  })
  const high = await sumOf(work, 2 ** HIGH_BITS, (item) => run('histogram', jobOf(item), signal))
  const bin = cut(high, keep)
  if (bin.index < 0) return candidates.map(({ tensor }) => ({ threshold: 0, quotas: noQuotas(tensor) }))
  const low = await sumOf(work, 2 ** LOW_BITS, (item) =>
    run('refine', { ...jobOf(item), bin: bin.index }, signal),
  )
  const exact = cut(low, bin.rest)
  const threshold = bin.index * 2 ** LOW_BITS + exact.index
  if (exact.rest < low[exact.index]) return shareTies(candidates, threshold, exact.rest, run, signal)
  // All that are equal to the k-th largest are kept.
  return candidates.map(({ tensor }) => ({ threshold: threshold - 1, quotas: noQuotas(tensor) }))
}

/** A threshold that no score is above. */
const NOTHING = 0x7fffffff

function noQuotas(tensor: TaskTensor): undefined[] {
  return slicesOf(tensor.shape).map(() => undefined)
}

/** The bin that the `keep`-th largest lies in (−1: there are not that many), and how many of its entries are needed. */
function cut(bins: ArrayLike<number>, keep: number): { index: number; rest: number } {
  let rest = keep
  for (let index = bins.length - 1; index >= 0; index--) {
    if (bins[index] >= rest) return { index, rest }
    rest -= bins[index]
  }
  return { index: -1, rest }
}

/** Histograms of many slices in one; integers, so the order of the sum does not matter. */
async function sumOf<T>(
  items: readonly T[],
  size: number,
  run: (item: T) => Promise<Uint32Array>,
): Promise<Float64Array> {
  const total = new Float64Array(size)
  for await (const [, part] of pipelined(items, () => 1, JOBS_AHEAD, run)) {
    for (let i = 0; i < size; i++) total[i] += part[i]
  }
  return total
}

/** Keeps the first `places` entries that are equal to the threshold, in flat order. */
async function shareTies(
  candidates: readonly Candidate[],
  threshold: number,
  places: number,
  run: RunJob,
  signal?: AbortSignal,
): Promise<Selection[]> {
  let rest = places
  const selections: Selection[] = []
  for (const { tensor, score } of candidates) {
    const slices = slicesOf(tensor.shape)
    const quotas: (Uint32Array | undefined)[] = slices.map(() => undefined)
    const count = (i: number) => {
      const slice = slices[i]
      return run('ties', { tensor, slice, score: sliceScore(score, slice), threshold }, signal)
    }
    const counted = pipelined(
      bandsOf(slices),
      (band) => band.length,
      JOBS_AHEAD,
      (band) => Promise.all(band.map(count)),
    )
    for await (const [band, counts] of counted) {
      // Slices side by side share their rows, and flat order goes through all of them row by row.
      for (let r = 0; r < counts[0].length; r++) {
        for (const row of counts) {
          row[r] = Math.min(row[r], rest)
          rest -= row[r]
        }
      }
      for (const [at, i] of band.entries()) quotas[i] = counts[at]
      if (rest === 0) break
    }
    selections.push({ threshold, quotas })
  }
  return selections
}

/** Indices of slices that lie side by side. */
function bandsOf(slices: readonly Slice[]): number[][] {
  const bands: number[][] = []
  for (const [i, { row }] of slices.entries()) {
    if (i > 0 && slices[i - 1].row === row) bands[bands.length - 1].push(i)
    else bands.push([i])
  }
  return bands
}
