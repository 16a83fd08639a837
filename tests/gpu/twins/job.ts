import { fromHalf } from '../../../src/format/float16.ts'
import { shaderConstants } from '../../../src/gpu/shader_constants.ts'
import { type Code, Cursor } from './golomb.ts'
import { INDEX_WORDS, type Lanes, POSITIONS } from './lanes.ts'
import { floatOf, type Target } from './target.ts'
import { termEntry } from './terms.ts'

/** `Stream` of shaders/shared/job.wgsl. */
export interface Stream {
  code: Code
  index: number
  codec: number
  value: number
  journal: number
}

/** `Job` of shaders/shared/job.wgsl. */
export interface Job {
  rows: number
  cols: number
  tile_rows: number
  tile_cols: number
  across: number
  first_block: number
  end_block: number
  offset: number
  row_stride: number
  col_stride: number
  reverted: number
  applied: number
  /** Invocations that share a block. */
  lanes: Lanes
  streams: readonly Stream[]
}

export const { TERNARY, DENSE_F16, DENSE_F32, TERMS, STEPS } = shaderConstants('job', [
  'TERNARY',
  'DENSE_F16',
  'DENSE_F32',
  'TERMS',
  'STEPS',
])

export interface Tile {
  row: number
  col: number
  height: number
  width: number
  area: number
}

export function tileOf(job: Job, block: number): Tile {
  const band = Math.floor(block / job.across)
  const row = band * job.tile_rows
  const col = (block - band * job.across) * job.tile_cols
  const height = Math.min(job.tile_rows, job.rows - row)
  const width = Math.min(job.tile_cols, job.cols - col)
  return { row, col, height, width, area: height * width }
}

/** Element of a position in a tile, and its flat row-major index. */
export function elementAt(job: Job, tile: Tile, position: number): { element: number; flat: number } {
  const row = tile.row + Math.floor(position / tile.width)
  const col = tile.col + (position % tile.width)
  return { element: job.offset + row * job.row_stride + col * job.col_stride, flat: row * job.cols + col }
}

export function keptBefore({ lanes }: Job, arena: Uint32Array, stream: Stream, block: number): number {
  return arena[stream.index + INDEX_WORDS[lanes] * block + 1]
}

export function open({ lanes }: Job, arena: Uint32Array, stream: Stream, block: number): Cursor {
  const at = stream.index + INDEX_WORDS[lanes] * block
  return new Cursor(arena, stream.code, arena[at], arena[at + INDEX_WORDS[lanes]])
}

/** Where the entries of a stream in a block are journaled: those of each part start on a word of their own. */
export class JournalPlaces {
  readonly #job: Job
  readonly #target: Target
  readonly #stream: Stream
  readonly #block: number
  readonly #kept: number
  #entries = 0
  #part = -1
  #start = 0
  #rank = 0

  /** @param kept - entries of the stream before the block */
  constructor(job: Job, target: Target, stream: Stream, block: number, kept: number) {
    this.#job = job
    this.#target = target
    this.#stream = stream
    this.#block = block
    this.#kept = kept
  }

  /** The next entry's: the first word of its part, and its number there. @param position - in the tile, in ascending order */
  next(position: number): { start: number; rank: number } {
    const { lanes } = this.#job
    const part = this.#block * lanes + Math.floor(position / POSITIONS[lanes])
    if (part !== this.#part) {
      this.#part = part
      this.#rank = 0
      this.#start = this.#stream.journal + this.#target.journalStart(this.#kept + this.#entries, part)
    }
    this.#entries++
    return { start: this.#start, rank: this.#rank++ }
  }
}

export function signedValue(value: number, negative: number): number {
  return negative === 1 ? -value : value
}

/** Entries of a dense stream before a block: shaders/shared/dense_entries.wgsl. */
export function denseBefore(job: Job, block: number): number {
  const { row, col, height } = tileOf(job, block)
  return row * job.cols + height * col
}

/** Value `flat` of a dense section. */
export function denseAt(arena: Uint32Array, { code, codec }: Stream, flat: number): number {
  if (codec === DENSE_F32) return floatOf(arena[code.words + flat])
  return fromHalf((arena[code.words + (flat >>> 1)] >>> ((flat & 1) << 4)) & 0xffff)
}

/** Entry `flat` of one side of terms. */
export function termsAt(arena: Uint32Array, { code }: Stream, flat: number): number {
  const { words, m: length, low: scales, cut: scaled } = code
  const term = Math.floor(flat / length)
  const entry = termEntry(arena, words, length, term, flat % length)
  return scaled === 1 ? Math.fround(entry * floatOf(arena[scales + term])) : entry
}
