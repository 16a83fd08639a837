/**
 * Inputs and results of the passes over a task vector, slice by slice. A job is plain data plus byte sources, its result
 * plain data, so jobs can run in this thread (`passes.ts`) or on others; results do not depend on where.
 *
 * @module
 */
import type { FloatDtype } from '../format/dtype.ts'
import type { StepUnit } from '../format/steps.ts'
import type { StoredTensor } from './safetensors.ts'
import type { Decomposition } from './semidiscrete.ts'
import type { Slice } from './slices.ts'
import type { TaskTensor } from './task_vector.ts'

/** What a job needs of a tensor. */
export type TauOf = Pick<TaskTensor, 'name' | 'shape' | 'theta' | 'init'>

/**
 * The score that ranks entries: |tau|, or for `balanced` |tau| / √(rms of its row · rms of its column), which
 * keeps a few large rows from taking all the places. One factor per row and column of the slice.
 */
export interface SliceScore {
  rows: Float32Array
  cols: Float32Array
}

/** Histograms split the 31 bits of a score into these. */
export const HIGH_BITS = 16
export const LOW_BITS = 15

export interface SliceJob {
  tensor: TauOf
  slice: Slice
}

export interface ScoredJob extends SliceJob {
  /** Absent: the score is |tau|. */
  score?: SliceScore
}

/** A change that becomes terms. */
export interface TermsJob {
  change: LoraChange | { tensor: TauOf }
  /** At most this many terms. */
  count: number
}

/** What the factors of a LoRA pair change. */
export interface LoraChange {
  /** [r, in, …] */
  a: StoredTensor
  /** [out, r, …] */
  b: StoredTensor
  scaling: number
  /** The target keeps its weight as [in, out]. */
  transposed: boolean
}

/** Input of every job, by kind. */
export interface JobInputs {
  /** First look: moments, and the sums of squares that `balanced` needs. */
  stats: SliceJob
  /** Entries by the high bits of their score. */
  histogram: ScoredJob
  /** Entries with high bits `bin`, by the low bits. */
  refine: ScoredJob & { bin: number }
  /** Entries whose score is exactly `threshold`, row by row. */
  ties: ScoredJob & { threshold: number }
  /** The kept entries: scores above `threshold`, and the first `quota[row]` of those equal to it in each row. */
  emit: ScoredJob & { threshold: number; quota?: Uint32Array }
  /** Steps from init to theta; where theta is added to init, to the sum of both, rounded to the unit. */
  steps: SliceJob & { unit: StepUnit; isAdded: boolean }
  /** tau as a dense section stores it; the slice counts flat elements. */
  dense: SliceJob & { dtype: FloatDtype }
  /** Ternary rank-1 terms of scaling · B · A or its transpose, or of tau. */
  terms: TermsJob
  /** SHA-256 of a stored tensor's bytes (`hashSlices`). */
  hash: { tensor: StoredTensor }
}

/** Result of every job, by kind. */
export interface JobResults {
  stats: SliceStats
  histogram: Uint32Array
  refine: Uint32Array
  ties: Uint32Array
  emit: SliceEntries
  steps: SliceSteps
  dense: Uint8Array<ArrayBuffer>
  terms: Decomposition
  hash: Uint8Array
}

export type JobKind = keyof JobInputs

/** Runs jobs, here or elsewhere. */
export type RunJob = <K extends JobKind>(
  kind: K,
  input: JobInputs[K],
  signal?: AbortSignal,
) => Promise<JobResults[K]>

export interface SliceStats {
  /** Entries ≠ 0. */
  nonzero: number
  mean: number
  /** Σ (tau − mean)². */
  m2: number
  sumSquares: number
  /** Σ tau² by row and by column. */
  rows: Float64Array
  cols: Float64Array
}

export interface SliceSteps {
  /** Where the changed weights are, counted block after block from the first of the slice. */
  places: Uint32Array
  steps: Int32Array
  /** Of them, those that a base in binary16 does not come out exactly with. */
  roundedInF16: number
}

export interface SliceEntries {
  /** Kept entries block by block: position in block · 2, plus 1 where negative. */
  codes: Uint16Array
  /** Codes of every block of the slice. */
  counts: Uint32Array
  /** Σ |tau| of the kept. */
  sumKept: number
}
