import { bitsFromHalf, halfFromBits } from '../../../src/format/float16.ts'
import { PER_WORD, type TargetDtype } from '../../../src/gpu/target.ts'

const value = new Float32Array(1)
const bits = new Uint32Array(value.buffer)

export function floatOf(raw: number): number {
  bits[0] = raw
  return value[0]
}

export function bitsOf(float: number): number {
  value[0] = float
  return bits[0]
}

/** Weights as words: shaders/shared/target_f32.wgsl and target_f16.wgsl. */
export class Target {
  readonly words: Uint32Array
  readonly half: boolean
  readonly perWord: number

  constructor(words: Uint32Array, dtype: TargetDtype) {
    this.words = words
    this.half = dtype === 'float16'
    this.perWord = PER_WORD[dtype]
  }

  load(element: number): number {
    return this.half ? (this.words[element >>> 1] >>> ((element & 1) << 4)) & 0xffff : this.words[element]
  }

  store(element: number, raw: number): void {
    if (this.half) this.words[element >>> 1] ^= (this.load(element) ^ raw) << ((element & 1) << 4)
    else this.words[element] = raw
  }

  valueOf(raw: number): number {
    return floatOf(this.half ? bitsFromHalf(raw) : raw)
  }

  rawOf(float: number): number {
    const raw = bitsOf(float)
    return this.half ? halfFromBits(raw) : raw
  }

  rawFromHalf(half: number): number {
    return this.half ? half : bitsFromHalf(half)
  }

  rawFromFloat(raw: number): number {
    return this.half ? halfFromBits(raw) : raw
  }

  /** The bits of a binary16 that a weight was made from. */
  halfOf(raw: number): number {
    if (this.half) return raw
    const isNotANumber = (raw & 0x7fffffff) > 0x7f800000
    return isNotANumber ? ((raw >>> 16) & 0x8000) | 0x7c00 | ((raw >>> 13) & 0x3ff) : halfFromBits(raw)
  }

  /** First journal word of a block. */
  journalStart(kept: number, block: number): number {
    return this.half ? (kept + block) >>> 1 : kept
  }

  /** Entry `rank` of a block's journal: shaders/shared/displaced_*.wgsl. */
  displacedAt(journal: Uint32Array, start: number, rank: number): number {
    return this.half ? (journal[start + (rank >>> 1)] >>> ((rank & 1) << 4)) & 0xffff : journal[start + rank]
  }

  /** Appends an entry: shaders/shared/journal_*.wgsl. */
  journalWrite(journal: Uint32Array, start: number, rank: number, raw: number): void {
    if (!this.half) journal[start + rank] = raw
    else if ((rank & 1) === 0) journal[start + (rank >>> 1)] = raw
    else journal[start + (rank >>> 1)] |= raw << 16
  }
}
