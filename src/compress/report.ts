/**
 * What compression is given besides a task vector, and what it tells of the file that came out.
 *
 * @module
 */
import type { PayloadSpool } from '../format/writer.ts'
import type { GenerationSettings } from '../source/generation_settings.ts'
import type { ByteSource } from '../source/source.ts'
import type { JobInputs, JobKind, RunJob } from './jobs.ts'
import { runJob } from './passes.ts'

/** Texts that travel with an expert. */
export interface ExpertTexts {
  label?: string
  description?: string
  /** A prompt that shows what the expert does. */
  prompt?: string
  /** What chats with it begin with. */
  system?: string
  /** How text is generated with it where a call does not say. */
  generation?: GenerationSettings
  licence?: string
  createdWith?: string
}

/** The texts alone, of options that hold more. */
export function textsOf(options: ExpertTexts): ExpertTexts {
  const { label, description, prompt, system, generation, licence, createdWith } = options
  return { label, description, prompt, system, generation, licence, createdWith }
}

export interface CompressContext {
  /** Takes the payload: memory, or a file where it does not fit. */
  spool: PayloadSpool
  /** Runs passes elsewhere; the default is this thread. The file does not depend on it. */
  run?: RunJob
  /** SHA-256 of a whole source file in lower-case hex, or undefined for a file that is too large to hash. */
  sha256?: (source: ByteSource) => Promise<string | undefined>
  signal?: AbortSignal
  /** Weights read so far, and weights to read in all passes together. */
  onProgress?: (progress: { done: number; total: number }) => void
}

/** What became of one tensor. */
export interface TensorReport {
  name: string
  weights: number
  kept: number
  /** Only of ternary tensors. */
  scale?: number
  /** Only of tensors of terms. */
  terms?: number
  /** How it fits the task vector, where there is one. */
  fit?: TensorFit
}

export interface TensorFit {
  /** ‖tau‖². */
  sumSquares: number
  /** Only of ternary tensors: the scale at alpha = 1 before it is rounded to f32, and Σ |tau| over the kept. */
  ternary?: { unit: number; sumKept: number }
}

export interface CompressReport {
  /** The head; the file is the head, then what went to the spool. */
  head: Uint8Array<ArrayBuffer>
  bytes: number
  tensors: TensorReport[]
  /** Ternary tensors of which nothing was kept. */
  empty: string[]
  /** Tensors equal to theta_init, left out. */
  unmoved: string[]
  /** Tensors left out by --include and --exclude. */
  skipped: string[]
  notes: string[]
}

/** The spool, and how many bytes went to it. */
export function countBytes(spool: PayloadSpool): { spool: PayloadSpool; bytes: () => number } {
  let total = 0
  const append = (bytes: Uint8Array<ArrayBuffer>) => {
    total += bytes.length
    return spool.append(bytes)
  }
  return { spool: { append }, bytes: () => total }
}

/** Weights that are read of a change. */
export function changeWeights(change: JobInputs['terms']['change']): number {
  return 'tensor' in change ? change.tensor.theta.weights : change.a.weights + change.b.weights
}

/** Reports the weights that jobs have gone over. */
export function countWeights({ run = runJob, onProgress }: CompressContext, total: number): RunJob {
  let done = 0
  return async <K extends JobKind>(kind: K, input: JobInputs[K], signal?: AbortSignal) => {
    signal?.throwIfAborted()
    const result = await run(kind, input, signal)
    const weights =
      'slice' in input
        ? input.slice.rows * input.slice.cols
        : 'change' in input
          ? changeWeights(input.change)
          : 0
    if (weights > 0) {
      done += weights
      onProgress?.({ done: Math.min(done, total), total })
    }
    return result
  }
}
