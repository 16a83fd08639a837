import type { BlockedEntries } from '../format/codecs/ternary_encode.ts'
import { tilingOf } from '../format/tiling.ts'
import type { RunJob, SliceScore, TauOf } from './jobs.ts'
import { pipelined } from './pipeline.ts'
import { sliceScore } from './select.ts'
import { SLICES_AHEAD, slicesOf } from './slices.ts'

/** The kept entries of one tensor. */
export interface Entries extends BlockedEntries {
  /** Σ |tau| over them. */
  sum: number
}

/** Collects what the `emit` jobs of all slices keep: slices hold whole blocks and come in block order. */
export async function gatherEntries(
  tensor: TauOf,
  {
    threshold,
    quotas,
    score,
  }: { threshold: number; quotas?: readonly (Uint32Array | undefined)[]; score?: SliceScore },
  run: RunJob,
  signal?: AbortSignal,
): Promise<Entries> {
  const starts = new Uint32Array(tilingOf(tensor.shape).blocks + 1)
  const pieces: Uint16Array[] = []
  let block = 0
  let kept = 0
  let sum = 0
  const work = pipelined(
    [...slicesOf(tensor.shape).entries()],
    () => 1,
    SLICES_AHEAD,
    ([i, slice]) =>
      run('emit', { tensor, slice, score: sliceScore(score, slice), threshold, quota: quotas?.[i] }, signal),
  )
  for await (const [, { codes, counts, sumKept }] of work) {
    for (const count of counts) {
      kept += count
      starts[++block] = kept
    }
    pieces.push(codes)
    sum += sumKept
  }
  const codes = new Uint16Array(kept)
  let at = 0
  for (const piece of pieces) {
    codes.set(piece, at)
    at += piece.length
  }
  return { codes, starts, sum }
}
