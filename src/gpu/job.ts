import type { Placement } from '../format/bindings.ts'
import { golombCode } from '../format/golomb.ts'
import { BLOCK_WEIGHTS, type TritTensor, tilingOf } from '../format/index.ts'
import type { Batch } from './batch.ts'
import type { Bindings, Kernel } from './kernel.ts'
import { shaderConstants } from './shader_constants.ts'
import { stepsCode } from './steps_form.ts'
import { type CodeParams, streamForm } from './stream_form.ts'
import { PER_WORD, type TargetDtype } from './target.ts'

const { MAX_STREAMS, ...CODECS } = shaderConstants('job', [
  'MAX_STREAMS',
  'TERNARY',
  'DENSE_F16',
  'DENSE_F32',
  'STEPS',
])

export { MAX_STREAMS }

/** Blocks in one dispatch. A dispatch cannot be divided between submissions, so a large tensor takes several. */
const BLOCKS_PER_DISPATCH = 16_384

/** Where a tensor of an expert lies in the arena, in words. */
export interface StreamSpan {
  /** First word of the code words, or of the values. */
  words: number
  /** First word of the block index; values have none. */
  index: number
}

/** Where the elements of a tensor lie in a buffer. */
export type ElementPlacement = Omit<Placement, 'tensor'>

/** `Stream` of shaders/shared/job.wgsl. */
export type StreamParams = { code: CodeParams } & Record<'index' | 'codec' | 'value' | 'journal', number>

/**
 * `Stream` of shaders/shared/job.wgsl.
 * @param weight - multiplies the values of the tensor
 * @param journal - first word of its span in the journal of its set
 */
export function streamParams(
  tensor: TritTensor,
  span: StreamSpan,
  weight: number,
  journal = 0,
): StreamParams {
  const form = streamForm(tensor)
  const { words, index } = span
  if (form.kind === 'golomb') {
    const code = { words, ...golombCode(form.code.m) }
    return { code, index, codec: CODECS.TERNARY, value: weight * form.scale, journal }
  }
  if (form.kind === 'terms') throw new Error(`${tensor.name} is no stream: terms are merged whole`)
  if (form.kind === 'steps')
    return { code: stepsCode(form.unit, words), index, codec: CODECS.STEPS, value: weight, journal }
  const codec = form.dtype === 'f16' ? CODECS.DENSE_F16 : CODECS.DENSE_F32
  return { code: { words, m: 0, low: 0, cut: 0 }, index, codec, value: weight, journal }
}

/** One tensor in a buffer, and the streams that meet there. */
export interface MergeJob {
  shape: readonly number[]
  placement: ElementPlacement
  reverted: readonly StreamParams[]
  applied: readonly StreamParams[]
}

/** What the jobs of shaders/shared/jobs.wgsl and job_list.wgsl say of a tensor. */
export function jobHeader({ shape, placement }: Pick<MergeJob, 'shape' | 'placement'>) {
  const { rows, cols, tileRows, tileCols, across } = tilingOf(shape)
  return {
    rows,
    cols,
    tile_rows: tileRows,
    tile_cols: tileCols,
    across,
    offset: placement.offset,
    row_stride: placement.rowStride,
    col_stride: placement.colStride,
  }
}

/**
 * Records a kernel over all blocks of a job.
 * @param options.invocations - that the kernel has for a block; those that walk one by default
 * @param options.work - of a weight, in units of {@link Batch}
 */
export function dispatchJob(
  batch: Batch,
  kernel: Kernel,
  bindings: Bindings,
  job: MergeJob,
  { invocations = kernel.lanes, work = 1 } = {},
): void {
  const { blocks } = tilingOf(job.shape)
  for (let first = 0; first < blocks; first += BLOCKS_PER_DISPATCH) {
    const end = Math.min(blocks, first + BLOCKS_PER_DISPATCH)
    const count = end - first
    const params = {
      ...jobHeader(job),
      first_block: first,
      end_block: end,
      reverted: job.reverted.length,
      applied: job.applied.length,
      streams: [...job.reverted, ...job.applied],
    }
    batch.dispatch(kernel, bindings, params, count * invocations, count * BLOCK_WEIGHTS * work)
  }
}

/** Invocations that the kernel `dense` has for a block: one for each word of the largest tile's journal. */
export function wordsOfTile(shape: readonly number[], dtype: TargetDtype): number {
  const { rows, cols, tileRows, tileCols } = tilingOf(shape)
  const area = Math.min(rows, tileRows) * Math.min(cols, tileCols)
  return Math.ceil(area / PER_WORD[dtype])
}
