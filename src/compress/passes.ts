/**
 * The passes, each over one slice of a tensor (`jobs.ts` describes their inputs and results).
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { encodeDense } from '../format/codecs/dense.ts'
import { HASH_SLICE, hashSlices } from '../format/fingerprint.ts'
import { bitsFromHalf, halfFromBits } from '../format/float16.ts'
import { bitsFromUnit, type StepUnit, stepped, stepsBetween, unitFromBits } from '../format/steps.ts'
import { tilingOf } from '../format/tiling.ts'
import {
  HIGH_BITS,
  type JobInputs,
  type JobKind,
  type JobResults,
  LOW_BITS,
  type RunJob,
  type ScoredJob,
  type SliceEntries,
  type SliceJob,
  type SliceStats,
  type SliceSteps,
  type TauOf,
} from './jobs.ts'
import { readBytes, readFloats, type StoredTensor } from './safetensors.ts'
import { type Decomposition, decompose, decomposeMatrix, type Matrix, transpose } from './semidiscrete.ts'
import { notFinite, readStored, type StoredSlice, writeTau } from './task_vector.ts'

/** Score of an entry as the bits of an f32: ordered like the score, 0 for tau = 0 only. */
type ScoreBits = Uint32Array

type Jobs = { [K in JobKind]: (input: JobInputs[K], signal?: AbortSignal) => Promise<JobResults[K]> }

const JOBS: Jobs = { stats, histogram, refine, ties, emit, steps, dense, terms, hash }

/** Runs a job in this thread. */
export const runJob: RunJob = (kind, input, signal) => JOBS[kind](input, signal)

/**
 * Memory for one slice, used again by the next job: without it the garbage collector lags hundreds of MB behind. What
 * lies in it must be used up before the next `await`.
 */
const scratch = new Map<string, ArrayBuffer>()

function scratchFor(use: string, bytes: number): ArrayBuffer {
  let buffer = scratch.get(use)
  if (buffer === undefined || buffer.byteLength < bytes) {
    buffer = new ArrayBuffer(bytes)
    scratch.set(use, buffer)
  }
  return buffer
}

function readSlice({ tensor, slice }: SliceJob, signal?: AbortSignal): Promise<StoredSlice> {
  signal?.throwIfAborted()
  return readStored(tensor, slice, tilingOf(tensor.shape).cols, { signal })
}

/** tau of a slice, valid until the next call. */
function tauOf({ tensor, slice }: SliceJob, stored: StoredSlice): Float32Array<ArrayBuffer> {
  const weights = slice.rows * slice.cols
  const tau = new Float32Array(scratchFor('tau', weights * 4), 0, weights)
  writeTau(tensor, stored, tau)
  return tau
}

async function stats(job: SliceJob, signal?: AbortSignal): Promise<SliceStats> {
  const { tensor, slice } = job
  const tau = tauOf(job, await readSlice(job, signal))
  const rows = new Float64Array(slice.rows)
  const cols = new Float64Array(slice.cols)
  let nonzero = 0
  let sum = 0
  let sumSquares = 0
  for (let r = 0, i = 0; r < slice.rows; r++) {
    let row = 0
    for (let c = 0; c < slice.cols; c++, i++) {
      const value = tau[i]
      const square = value * value
      if (value !== 0) nonzero++
      sum += value
      row += square
      cols[c] += square
    }
    rows[r] = row
    sumSquares += row
  }
  // Squares of finite f32 cannot overflow a double.
  if (!Number.isFinite(sumSquares)) {
    const at = tau.findIndex((value) => !Number.isFinite(value))
    const width = tilingOf(tensor.shape).cols
    const index = (slice.row + Math.floor(at / slice.cols)) * width + slice.col + (at % slice.cols)
    throw notFinite(tensor.name, index, tau[at])
  }
  const mean = sum / tau.length
  let m2 = 0
  for (let i = 0; i < tau.length; i++) m2 += (tau[i] - mean) ** 2
  return { nonzero, mean, m2, sumSquares, rows, cols }
}

/** The scores of a slice, valid until the next call. */
function scoreBits(tau: Float32Array, { slice, score }: ScoredJob): ScoreBits {
  const room = scratchFor('scores', tau.byteLength)
  const bits = new Uint32Array(room, 0, tau.length)
  if (score === undefined) {
    const words = new Uint32Array(tau.buffer, tau.byteOffset, tau.length)
    for (let i = 0; i < words.length; i++) bits[i] = words[i] & 0x7fffffff
    return bits
  }
  const scores = new Float32Array(room, 0, tau.length)
  for (let r = 0, i = 0; r < slice.rows; r++) {
    const row = score.rows[r]
    for (let c = 0; c < slice.cols; c++, i++) {
      const value = tau[i]
      scores[i] = Math.abs(value) * (row * score.cols[c])
      // A score that underflows still ranks above "did not move".
      if (bits[i] === 0 && value !== 0) bits[i] = 1
    }
  }
  return bits
}

async function histogram(job: ScoredJob, signal?: AbortSignal): Promise<Uint32Array> {
  const bits = scoreBits(tauOf(job, await readSlice(job, signal)), job)
  const bins = new Uint32Array(2 ** HIGH_BITS)
  let zeros = 0
  for (let i = 0; i < bits.length; i++) {
    if (bits[i] === 0) zeros++
    bins[bits[i] >>> LOW_BITS]++
  }
  bins[0] -= zeros
  return bins
}

async function refine(job: JobInputs['refine'], signal?: AbortSignal): Promise<Uint32Array> {
  const bits = scoreBits(tauOf(job, await readSlice(job, signal)), job)
  const { bin } = job
  const bins = new Uint32Array(2 ** LOW_BITS)
  for (let i = 0; i < bits.length; i++)
    if (bits[i] >>> LOW_BITS === bin) bins[bits[i] & (2 ** LOW_BITS - 1)]++
  if (bin === 0) bins[0] = 0
  return bins
}

async function ties(job: JobInputs['ties'], signal?: AbortSignal): Promise<Uint32Array> {
  const bits = scoreBits(tauOf(job, await readSlice(job, signal)), job)
  const { slice, threshold } = job
  const counts = new Uint32Array(slice.rows)
  for (let r = 0, i = 0; r < slice.rows; r++) {
    let count = 0
    for (const end = i + slice.cols; i < end; i++) if (bits[i] === threshold) count++
    counts[r] = count
  }
  return counts
}

async function emit(job: JobInputs['emit'], signal?: AbortSignal): Promise<SliceEntries> {
  const { tensor, slice, threshold } = job
  const quota = job.quota?.slice() ?? new Uint32Array(slice.rows)
  const tau = tauOf(job, await readSlice(job, signal))
  const bits = scoreBits(tau, job)
  const { tileRows, tileCols } = tilingOf(tensor.shape)
  const across = Math.ceil(slice.cols / tileCols)
  const counts = new Uint32Array(across * Math.ceil(slice.rows / tileRows))
  const codes = new Uint16Array(scratchFor('codes', tau.length * 2), 0, tau.length)
  let kept = 0
  let sumKept = 0
  for (let block = 0; block < counts.length; block++) {
    const row = Math.floor(block / across) * tileRows
    const col = (block % across) * tileCols
    const height = Math.min(tileRows, slice.rows - row)
    const width = Math.min(tileCols, slice.cols - col)
    const before = kept
    for (let r = 0; r < height; r++) {
      const start = (row + r) * slice.cols + col
      for (let c = 0; c < width; c++) {
        const bit = bits[start + c]
        if (bit < threshold) continue
        if (bit === threshold) {
          if (quota[row + r] === 0) continue
          quota[row + r]--
        }
        const value = tau[start + c]
        codes[kept++] = ((r * width + c) << 1) | (value < 0 ? 1 : 0)
        sumKept += Math.abs(value)
      }
    }
    counts[block] = kept - before
  }
  return { codes: codes.slice(0, kept), counts, sumKept }
}

/** A weight that differs in its bits has changed: −0 is not 0. */
async function steps(job: JobInputs['steps'], signal?: AbortSignal): Promise<SliceSteps> {
  const { tensor, slice, unit, isAdded } = job
  const stored = await readSlice(job, signal)
  const weights = slice.rows * slice.cols
  const to = new Float32Array(scratchFor('to', weights * 4), 0, weights)
  const from = new Float32Array(scratchFor('from', weights * 4), 0, weights)
  writeTau({ theta: tensor.theta, init: 0 }, stored, to)
  writeTau({ theta: tensor.init as StoredTensor, init: 0 }, { theta: stored.init, init: [] }, from)
  if (isAdded) for (let i = 0; i < weights; i++) to[i] += from[i]
  const [toBits, fromBits] = [to, from].map((values) => new Uint32Array(values.buffer, 0, weights))
  const { cols, tileRows, tileCols } = tilingOf(tensor.shape)
  const places: number[] = []
  const moves: number[] = []
  let roundedInF16 = 0
  let place = 0
  for (let top = 0; top < slice.rows; top += tileRows) {
    for (let left = 0; left < slice.cols; left += tileCols) {
      const bottom = Math.min(slice.rows, top + tileRows)
      const right = Math.min(slice.cols, left + tileCols)
      for (let r = top; r < bottom; r++) {
        for (let c = left; c < right; c++, place++) {
          const i = r * slice.cols + c
          if (!Number.isFinite(to[i]))
            throw notFinite(tensor.name, (slice.row + r) * cols + slice.col + c, to[i])
          if (toBits[i] === fromBits[i]) continue
          const [old, next] = [unitFromBits(fromBits[i], unit), unitFromBits(toBits[i], unit)]
          const step = stepsBetween(old, next, unit)
          if (step === 0) continue
          places.push(place)
          moves.push(step)
          const half = halfFromBits(bitsFromUnit(stepped(overHalf(fromBits[i], unit), step, unit), unit))
          if (half !== halfFromBits(bitsFromUnit(next, unit))) roundedInF16++
        }
      }
    }
  }
  return { places: Uint32Array.from(places), steps: Int32Array.from(moves), roundedInF16 }
}

/** The value that steps start from where a weight is held in binary16. */
function overHalf(bits: number, unit: StepUnit): number {
  return unitFromBits(bitsFromHalf(halfFromBits(bits)), unit)
}

async function terms({ change, count }: JobInputs['terms'], signal?: AbortSignal): Promise<Decomposition> {
  signal?.throwIfAborted()
  if ('tensor' in change) return decomposeMatrix(await matrixOf(change.tensor, signal), count)
  const { a, b, scaling, transposed } = change
  const [rank, outputs] = [a.shape[0], b.shape[0]]
  const inputs = a.weights / rank
  const [own, other] = [await finiteFloats(a), await finiteFloats(b)]
  const left = Float64Array.from(other, (value) => scaling * value)
  const product = { rows: outputs, cols: inputs, rank, left, right: Float64Array.from(own) }
  return decompose(transposed ? transpose(product) : product, count)
}

/** @throws {TritswapError} `input` for NaN and infinities */
async function matrixOf(tensor: TauOf, signal?: AbortSignal): Promise<Matrix> {
  const { rows, cols } = tilingOf(tensor.shape)
  const slice = { row: 0, col: 0, rows: 1, cols: rows * cols }
  const values = new Float32Array(rows * cols)
  writeTau(tensor, await readStored(tensor, slice, rows * cols, { signal }), values)
  const at = values.findIndex((value) => !Number.isFinite(value))
  if (at >= 0) throw notFinite(tensor.name, at, values[at])
  return { rows, cols, values }
}

/** @throws {TritswapError} `input` for NaN and infinities */
async function finiteFloats(tensor: StoredTensor): Promise<Float32Array> {
  const values = await readFloats(tensor)
  const at = values.findIndex((value) => !Number.isFinite(value))
  if (at >= 0) throw notFinite(tensor.name, at, values[at])
  return values
}

async function dense(job: JobInputs['dense'], signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
  const { tensor, slice, dtype } = job
  // Seen as a vector: a dense section is in flat order.
  const stored = await readStored(tensor, slice, tensor.theta.weights, { signal })
  const tau = new Float32Array(slice.cols)
  writeTau(tensor, stored, tau)
  if (dtype === 'f16') {
    const over = tau.findIndex((value) => Math.abs(value) >= 65_520)
    if (over >= 0) {
      throw new TritswapError(
        'input',
        `Cannot store ${tensor.name} as f16: the delta at index ${slice.col + over} is ${tau[over]}; use --dense-dtype f32`,
        { fields: { tensor: tensor.name, index: slice.col + over, value: tau[over] } },
      )
    }
  }
  const { buffer, byteOffset, byteLength } = encodeDense(tau, dtype)
  return new Uint8Array(buffer, byteOffset, byteLength)
}

async function hash({ tensor }: JobInputs['hash'], signal?: AbortSignal): Promise<Uint8Array> {
  const bytes: StoredTensor = { ...tensor, dtype: 'U8', weights: tensor.bytes }
  return hashSlices(slicesOfBytes(bytes, signal))
}

/** Pieces of {@link HASH_SLICE}, read eight at a time. */
async function* slicesOfBytes(
  tensor: StoredTensor,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const batch = 8 * HASH_SLICE
  for (let from = 0; from < tensor.bytes; from += batch) {
    const bytes = await readBytes(tensor, from, Math.min(batch, tensor.bytes - from), { signal })
    for (let at = 0; at < bytes.length; at += HASH_SLICE) yield bytes.subarray(at, at + HASH_SLICE)
  }
}
