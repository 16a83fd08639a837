import { TritswapError } from '../errors.ts'
import type { BaseRecord, ModuleLayout, TensorRole, TritMethod } from '../format/table.ts'
import type { ByteSource, ReadOptions } from '../source/source.ts'
import { decodeFloats, subtractFloats } from './dtypes.ts'
import type { Matrix } from './matrices.ts'
import { readBytes, type StoredTensor } from './safetensors.ts'
import type { Slice } from './slices.ts'

/** What a scale of rows depends on. */
export interface RowLengths {
  /** Target of the pair that is added. */
  of: string
  /** Lengths of the rows [outputs]. */
  lengths(): Promise<Float64Array>
  /** The weight of the base [outputs, inputs]. */
  weight(): Promise<Matrix>
  /** The scales with what is added before compression. */
  scales(): Promise<Float64Array>
  /** What is added to the bias, so that it stays as it is where the outputs are scaled with it: of a tensor for it. */
  bias?(): Promise<Matrix>
}

/** One tensor of a task vector: tau = theta − init, where both are stored and what it means. */
export interface TaskTensor {
  /** As in the checkpoint or adapter. */
  name: string
  shape: readonly number[]
  role: TensorRole
  /** Checkpoint name of the base tensor it changes. */
  target: string
  /** The checkpoint name that globs match in place of `target`, where the base ties the tensor to another one. */
  knownAs?: string
  scaling?: number
  layout?: ModuleLayout
  feedforward?: boolean
  /** The fine-tuned weights. */
  theta: StoredTensor
  /** theta_init: the base tensor, 0 for LoRA factors, 1 for (IA)³ (ComPEFT section 2). */
  init: StoredTensor | 0 | 1
  /** A scale brings what it adds up to its length again, so that none of it need make up for what is left out. */
  isLengthened?: boolean
  /** A scale of rows that depends on what is added to them, or what is added to their bias for it. */
  rowLengths?: RowLengths
  /** Why it cannot be compressed; thrown unless the tensor is left out. */
  problem?: TritswapError
}

/** Everything that a fine-tuning changed, before compression. */
export interface TaskVector {
  method: TritMethod
  tensors: TaskTensor[]
  /** Of activated LoRA: the tokens that it acts from. */
  invocation?: number[]
  /** The base checkpoint where it is at hand: for fingerprint and sketch. */
  base?: ReadonlyMap<string, StoredTensor>
  /** The base was read out of another format, so its bytes give no fingerprint. */
  converted?: boolean
  /** What is known of the base, given the tensors that changed, where its checkpoint is not at hand. */
  baseRecord?: (tensors: readonly { target: string }[]) => BaseRecord
  baseName?: string
  /** Names of tensors that are left out as copies of others; globs may match them. */
  copies?: string[]
  /** The files that theta comes from. */
  sources: ByteSource[]
  /** What the user is told about how the input was read. */
  notes: string[]
}

/** Both sides of one slice as stored; in one piece where the slice spans the tensor, else row by row. */
export interface StoredSlice {
  theta: Uint8Array<ArrayBuffer>[]
  init: Uint8Array<ArrayBuffer>[]
}

/** @param cols - columns of the whole tensor's matrix */
export async function readStored(
  { theta, init }: Pick<TaskTensor, 'theta' | 'init'>,
  slice: Slice,
  cols: number,
  options?: ReadOptions,
): Promise<StoredSlice> {
  const [to, from] = await Promise.all([
    readRows(theta, slice, cols, options),
    typeof init === 'number' ? [] : readRows(init, slice, cols, options),
  ])
  return { theta: to, init: from }
}

/** tau of one slice in f32, row-major. */
export function writeTau(
  { theta, init }: Pick<TaskTensor, 'theta' | 'init'>,
  stored: StoredSlice,
  tau: Float32Array,
): void {
  const step = tau.length / stored.theta.length
  const row = (r: number) => tau.subarray(r * step, (r + 1) * step)
  for (const [r, bytes] of stored.theta.entries()) decodeFloats(bytes, theta.dtype, theta.name, row(r))
  if (typeof init !== 'number') {
    for (const [r, bytes] of stored.init.entries()) subtractFloats(bytes, init.dtype, init.name, row(r))
  } else if (init !== 0) {
    for (let i = 0; i < tau.length; i++) tau[i] -= init
  }
}

async function readRows(
  tensor: StoredTensor,
  { row, col, ...size }: Slice,
  cols: number,
  options?: ReadOptions,
) {
  if (size.cols === cols) return [await readBytes(tensor, row * cols, size.rows * cols, options)]
  const rows: Uint8Array<ArrayBuffer>[] = []
  for (let r = row; r < row + size.rows; r++)
    rows.push(await readBytes(tensor, r * cols + col, size.cols, options))
  return rows
}

/** The error for NaN and infinities, with the flat row-major index in the tensor. */
export function notFinite(name: string, index: number, value: number): TritswapError {
  return new TritswapError(
    'input',
    `Cannot compress ${name}: the task vector is ${value} at index ${index}; repair the checkpoint, or leave the tensor out with --exclude`,
    { fields: { tensor: name, index, value: String(value) } },
  )
}
