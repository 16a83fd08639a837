import { golombCode } from '../format/golomb.ts'
import { type TritTensor, tilingOf } from '../format/index.ts'
import type { StreamSpan } from './experts/expert_store.ts'
import type { Params, TargetDtype } from './kernel.ts'

/** `codec` of shaders/shared/job.wgsl. */
const CODECS = { ternary: 0, f16: 1, f32: 2 } as const

/**
 * `Stream` of shaders/shared/job.wgsl: a tensor in the arena, its values multiplied with `weight`, what it displaces at
 * word `journal` of its set's.
 */
export function streamParams(tensor: TritTensor, place: StreamSpan, weight: number, journal = 0): Params {
  const ternary = tensor.codec === 'ternary'
  return {
    code: { words: place.words, ...(ternary ? golombCode(tensor.m) : { m: 0, low: 0, cut: 0 }) },
    index: place.index,
    // No expert has blocks: a reader refuses them.
    codec: CODECS[ternary ? 'ternary' : tensor.dtype],
    value: ternary ? weight * tensor.scale : weight,
    journal,
  }
}

/** Elements from one row and column of a tensor's matrix to the next, and the first one. */
export interface Strides {
  offset: number
  rowStride: number
  colStride: number
}

/**
 * `Job` of shaders/shared/job.wgsl over the blocks [`firstBlock`, `endBlock`): the first `olds` streams are taken off,
 * the others put on.
 */
export function jobParams(
  shape: readonly number[],
  { offset, rowStride, colStride }: Strides,
  streams: readonly Params[],
  olds: number,
  firstBlock: number,
  endBlock: number,
): Params {
  const { rows, cols, tileRows, tileCols, across } = tilingOf(shape)
  return {
    rows,
    cols,
    tile_rows: tileRows,
    tile_cols: tileCols,
    across,
    first_block: firstBlock,
    end_block: endBlock,
    offset,
    row_stride: rowStride,
    col_stride: colStride,
    olds,
    news: streams.length - olds,
    streams,
  }
}

/** Invocations that the kernel `dense` has for a block: one for each word of the largest tile's journal. */
export function wordsOfTile(shape: readonly number[], dtype: TargetDtype): number {
  const { rows, cols, tileRows, tileCols } = tilingOf(shape)
  const area = Math.min(rows, tileRows) * Math.min(cols, tileCols)
  return Math.ceil(area / (dtype === 'float16' ? 2 : 1))
}
