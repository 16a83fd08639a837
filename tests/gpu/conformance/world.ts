import { wordsFor } from '../../../src/format/bits.ts'
import { bitsFromHalf } from '../../../src/format/float16.ts'
import { golombCode } from '../../../src/format/golomb.ts'
import { encodeTernary, tilingOf, weightsOf } from '../../../src/format/index.ts'
import { indexLength } from '../../../src/gpu/experts/resident_expert.ts'
import { type SectionParams, sectionParams } from '../../../src/gpu/experts/sections.ts'
import type { Params } from '../../../src/gpu/kernel.ts'
import type { TargetDtype } from '../../../src/gpu/target.ts'
import { Random, randomEntries } from '../random.ts'
import { indexBlocks } from '../twins/index_blocks.ts'
import { indexCounts } from '../twins/index_counts.ts'
import { indexOffsets } from '../twins/index_offsets.ts'
import { DENSE_F16, DENSE_F32, type Job, type Stream, TERNARY } from '../twins/job.ts'
import { INDEX_WORDS, type Lanes } from '../twins/lanes.ts'
import { elementOf, type Placement } from '../twins/placement.ts'
import { Target } from '../twins/target.ts'

export type Words = Uint32Array<ArrayBuffer>

/** Raw weights that arithmetic must not meet but copying must keep. */
const SPECIAL = {
  float32: [
    0, 0x80000000, 1, 0x80000001, 0x007fffff, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001, 0xffabcdef,
    0x7f7fffff,
  ],
  float16: [0, 0x8000, 1, 0x8001, 0x03ff, 0x7c00, 0xfc00, 0x7e00, 0x7c01, 0xfdef, 0x7bff],
}
/** Those that it may meet: sums with them are exact or rounded in integers. */
const ORDINARY = { float32: [0, 0x80000000], float16: [0, 0x8000, 1, 0x8001, 0x03ff, 0x7bff, 0xfbff] }

const EDGES = [1, 2, 63, 64, 65, 127, 128, 129]
const DENSITIES = [0, 0.001, 0.01, 0.05, 0.05, 0.2, 0.5, 1]

/** A tensor and the streams that meet there: the material of a case, which all kernels share. */
export class World {
  static readonly #made = new Map<string, World>()

  /** World number `i` of a seed, made once. */
  static of(seed: number, i: number): World {
    const key = `${seed} ${i}`
    const world =
      World.#made.get(key) ?? new World(new Random(seed * 100_003 + i), (i >> 1) % 2 === 0 ? 1 : 8)
    World.#made.set(key, world)
    return world
  }

  readonly dtype: TargetDtype
  /** Invocations that share a block. */
  readonly lanes: Lanes
  readonly shape: number[]
  /** Where any of the ternary streams has an entry. */
  readonly touched: ReadonlySet<number>
  /** Sections of the ternary streams, and the arena before their indexes are made. */
  readonly sections: readonly SectionParams[]
  readonly unindexed: Words
  /** With all indexes. */
  readonly arena: Words
  /** Four ternary ones, then a dense one of each kind. */
  readonly streams: readonly Stream[]

  private constructor(random: Random, lanes: Lanes) {
    this.lanes = lanes
    this.dtype = random.pick(['float32', 'float16'])
    this.shape = randomShape(random)
    const { blocks } = tilingOf(this.shape)
    const weights = weightsOf(this.shape)
    const entries = Array.from({ length: 4 }, () => randomEntries(weights, random.pick(DENSITIES), random))
    this.touched = new Set(entries.flatMap(({ indices }) => [...indices]))
    const encoded = entries.map((entry) => encodeTernary(this.shape, entry))
    const index = indexLength(blocks, INDEX_WORDS[this.lanes])
    const size = encoded.reduce((sum, { words }) => sum + words.length + index, 5) + 2 * weights
    // The arena has other things around what is read.
    const arena = Uint32Array.from({ length: size }, () => random.bits())
    let at = 3
    const placed = encoded.map(({ words, ...code }) => {
      arena.set(words, at)
      const tensor = { shape: this.shape, bytes: words.length * 4, ...code }
      const span = { words: at + wordsFor(blocks * code.lengthBits), index: at + words.length }
      at = span.index + index
      return { tensor, span }
    })
    this.sections = sectionParams(placed, 0)
    const streams = placed.map(({ tensor, span }): Stream => {
      const value = Math.fround((0.5 + random.unit()) * 2 ** random.integer(-9, -5))
      const code = { words: span.words, ...golombCode(tensor.m) }
      return { code, index: span.index, codec: TERNARY, value, journal: 0 }
    })
    for (const codec of [DENSE_F16, DENSE_F32]) {
      const values = new Uint32Array(random.floats(weights).buffer)
      const halves = () => random.integer(0x2000, 0x2fff) | (random.integer(0xa000, 0xafff) << 16)
      for (let i = 0; i < weights; i++) arena[at + i] = codec === DENSE_F32 ? values[i] : halves()
      const code = { words: at, m: 0, low: 0, cut: 0 }
      streams.push({ code, index: 0, codec, value: random.pick([1, 0.5, -0.25]), journal: 0 })
      at += weights
    }
    this.streams = streams
    this.unindexed = arena.slice()
    const status = Uint32Array.of(0, 0xffffffff)
    indexOffsets(this.sections, arena, status, this.lanes)
    indexBlocks(this.sections, arena, status, this.lanes)
    indexCounts(this.sections, arena, status, this.lanes)
    if (status[0] !== 0) throw new Error(`the twins refuse a sound stream: ${status[0]}`)
    this.arena = arena
  }

  get description(): string {
    return `${this.shape.join(' × ')}, ${this.dtype}, ${this.lanes} a block`
  }

  get weights(): number {
    return weightsOf(this.shape)
  }

  get blocks(): number {
    return tilingOf(this.shape).blocks
  }

  /** Weights with random content in a random placement: rows or columns, alone or as a part of something wider. */
  target(random: Random, touched: (flat: number) => boolean, meet: readonly number[] = ORDINARY[this.dtype]) {
    const { rows, cols } = tilingOf(this.shape)
    const offset = random.pick([0, 0, 1, 5])
    const wide = random.pick([0, 0, 3, 7])
    const placement: Placement =
      random.unit() < 0.5
        ? { cols, offset, row_stride: cols + wide, col_stride: 1 }
        : { cols, offset, row_stride: 1, col_stride: rows + wide }
    const elements = offset + (rows + wide) * (cols + wide)
    const length = Math.ceil(elements / (this.dtype === 'float16' ? 2 : 1)) + 2
    const words = Uint32Array.from({ length }, () => random.bits())
    const target = new Target(words, this.dtype)
    for (let flat = 0; flat < rows * cols; flat++) {
      const special = random.unit() < 0.2
      const choices = touched(flat) ? meet : SPECIAL[this.dtype]
      const half = random.integer(0x2400, 0x3400) | (random.integer(0, 1) << 15)
      const ordinary = this.dtype === 'float16' ? half : bitsFromHalf(half) | random.integer(0, 0x1fff)
      target.store(elementOf(placement, flat), special ? random.pick(choices) : ordinary >>> 0)
    }
    return { words, target, placement }
  }

  /** Words that the spans of `streams` streams take in a journal. */
  journalWords(streams: number): number {
    return FIRST_SPAN + Math.max(1, streams) * this.#spanWords
  }

  /** Room for all that a stream may displace, halves with a spare one for each part. */
  get #spanWords(): number {
    return this.weights + this.lanes * this.blocks + 1
  }

  /** A job over all blocks. @param placement - of the tensor in its buffer */
  job(
    placement: Omit<Placement, 'cols'>,
    reverted: readonly Stream[],
    applied: readonly Stream[],
  ): Job & Params {
    const { rows, cols, tileRows, tileCols, across, blocks } = tilingOf(this.shape)
    const inJournal = (set: readonly Stream[]) =>
      set.map((stream, n) => ({
        ...stream,
        code: { ...stream.code },
        journal: FIRST_SPAN + n * this.#spanWords,
      }))
    return {
      rows,
      cols,
      tile_rows: tileRows,
      tile_cols: tileCols,
      across,
      first_block: 0,
      end_block: blocks,
      offset: placement.offset,
      row_stride: placement.row_stride,
      col_stride: placement.col_stride,
      reverted: reverted.length,
      applied: applied.length,
      lanes: this.lanes,
      streams: [...inJournal(reverted), ...inJournal(applied)],
    }
  }
}

/** Journal word where the first stream's span starts. */
const FIRST_SPAN = 3

function randomShape(random: Random): number[] {
  switch (random.integer(0, 6)) {
    case 0:
      return [random.pick([1, 7, 4095, 4096, 4097, 9000])]
    case 1:
      return [1, random.integer(1, 9000)]
    case 2:
      return [random.integer(1, 9000), 1]
    case 3:
      return [random.pick(EDGES), random.pick(EDGES)]
    case 4:
      return [random.integer(1, 12), random.integer(1, 12), 3, 3]
    default:
      return [random.integer(1, 150), random.integer(1, 150)]
  }
}
