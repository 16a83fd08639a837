/**
 * Centroids of many experts, and which of them lie nearest to a position. All signs are looked at, 32 centroids at a time
 * with counters of bits; magnitudes only of the few whose signs agree best.
 *
 * @module
 */
import { atOnce } from '../async/in_steps.ts'
import { type Centroid, PLANE_WORDS } from './centroids.ts'
import { DIMS } from './space.ts'

export interface CentroidTable {
  /** Centroids. */
  count: number
  /** For each centroid, the index of its expert. */
  owners: Uint32Array
  /** By value, then by centroid: bit c of row i is the sign of value i of centroid c. `DIMS` rows of {@link rowWords} words. */
  signs: Uint32Array
  /** By centroid: as in {@link Centroid}. */
  magnitudes: Uint32Array
}

export interface Near {
  centroid: number
  /** Cosine between the position and the centroid. */
  similarity: number
}

/**
 * Centroids whose magnitudes are looked at. Of 80,000, one that a request was made like stands far above the others by its
 * signs; among centroids that are all alike to a request, the nearest may be missed, and none of them fits it.
 */
const CANDIDATES = 96

/** Columns that are counted at once: three adders make a number of three bits of seven. */
const GROUP = 7

/** Bits of a counter. */
const COUNTER_BITS = 7

/** What a counter can hold, in whole groups. */
const MAX_COLUMNS = Math.floor((2 ** COUNTER_BITS - 1) / GROUP) * GROUP

/** Words of a row that are counted in one step: those of 32,768 centroids. */
const STEP_WORDS = 1024

/** How often a heavy value is counted, at most. */
const MAX_REPEATS = 3

/** Words of a row of signs. */
export const rowWords = (count: number): number => Math.ceil(count / 32)

/** @param centroids - of each expert, in order */
export function centroidTable(centroids: readonly (readonly Centroid[])[]): CentroidTable {
  const all = centroids.flat()
  const words = rowWords(all.length)
  const signs = new Uint32Array(DIMS * words)
  const magnitudes = new Uint32Array(all.length * PLANE_WORDS)
  for (const [c, centroid] of all.entries()) {
    magnitudes.set(centroid.magnitudes, c * PLANE_WORDS)
    for (let i = 0; i < DIMS; i++)
      signs[i * words + (c >>> 5)] |= ((centroid.signs[i >>> 5]! >>> (i & 31)) & 1) << (c & 31)
  }
  return { count: all.length, owners: ownersOf(centroids.map(({ length }) => length)), signs, magnitudes }
}

/** @param counts - centroids of each expert */
export function ownersOf(counts: ArrayLike<number>): Uint32Array {
  let total = 0
  for (let owner = 0; owner < counts.length; owner++) total += counts[owner]!
  const owners = new Uint32Array(total)
  for (let owner = 0, at = 0; owner < counts.length; at += counts[owner++]!)
    owners.fill(owner, at, at + counts[owner]!)
  return owners
}

/** The centroids nearest to a position, the nearest first. @returns at most `CANDIDATES` */
export function nearestCentroids(table: CentroidTable, position: Float32Array): Near[] {
  return atOnce(nearest(table, position))
}

/** The same, in steps. */
export function* nearest(table: CentroidTable, position: Float32Array): Generator<void, Near[]> {
  const candidates = table.count <= CANDIDATES ? range(table.count) : yield* bySigns(table, position)
  return candidates
    .map((centroid) => ({ centroid, similarity: similarityOf(table, centroid, position) }))
    .sort((a, b) => b.similarity - a.similarity)
}

function range(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i)
}

function similarityOf(
  { signs, magnitudes, count }: CentroidTable,
  centroid: number,
  position: Float32Array,
): number {
  const words = rowWords(count)
  const at = centroid >>> 5
  const bit = centroid & 31
  const start = centroid * PLANE_WORDS
  let sum = 0
  let square = 0
  for (let i = 0; i < DIMS; i++) {
    const magnitude = 1 + 2 * ((magnitudes[start + (i >>> 5)]! >>> (i & 31)) & 1)
    sum += ((signs[i * words + at]! >>> bit) & 1) === 1 ? -magnitude * position[i] : magnitude * position[i]
    square += magnitude * magnitude
  }
  return sum / Math.sqrt(square)
}

/** The centroids with the most signs of the position's heavy values. */
function* bySigns(table: CentroidTable, position: Float32Array): Generator<void, number[]> {
  const words = rowWords(table.count)
  const counters = new Int32Array(COUNTER_BITS * words)
  const columns = columnsOf(position)
  for (let group = 0; group < columns.length; group += GROUP) {
    const seven = columns.slice(group, group + GROUP)
    for (let from = 0; from < words; from += STEP_WORDS) {
      count(counters, table.signs, seven, words, from, Math.min(words, from + STEP_WORDS))
      yield
    }
  }
  return select(counters, words, table.count)
}

/** A row of signs to count, and what turns its bits into agreements. */
interface Column {
  row: number
  flip: number
}

/** The heaviest values, the heavier ones several times; whole groups. */
function columnsOf(position: Float32Array): Column[] {
  const rows = range(DIMS).sort((a, b) => Math.abs(position[b]!) - Math.abs(position[a]!))
  const heaviest = Math.abs(position[rows[0]!]!)
  const columns: Column[] = []
  for (const row of rows) {
    const repeats = Math.max(1, Math.round((MAX_REPEATS * Math.abs(position[row]!)) / (heaviest || 1)))
    for (let n = 0; n < repeats && columns.length < MAX_COLUMNS; n++)
      columns.push({ row, flip: position[row]! < 0 ? 0 : -1 })
  }
  return columns
}

/**
 * Counts in which of seven columns each centroid agrees.
 * @param counters - for each centroid `COUNTER_BITS` bits, the lowest first, 32 centroids a word
 * @param words - of a row; those from one up to another are counted
 */
function count(
  counters: Int32Array,
  signs: Uint32Array,
  seven: readonly Column[],
  words: number,
  from: number,
  to: number,
): void {
  const [o0, o1, o2, o3, o4, o5, o6] = seven.map(({ row }) => row * words) as Seven
  const [f0, f1, f2, f3, f4, f5, f6] = seven.map(({ flip }) => flip) as Seven
  for (let w = from; w < to; w++) {
    const a = signs[o0 + w]! ^ f0
    const b = signs[o1 + w]! ^ f1
    const c = signs[o2 + w]! ^ f2
    const d = signs[o3 + w]! ^ f3
    const e = signs[o4 + w]! ^ f4
    const f = signs[o5 + w]! ^ f5
    const g = signs[o6 + w]! ^ f6
    // Full adders: three bits of one weight are a bit of that weight and one of twice that weight.
    const ab = a ^ b
    const ones1 = ab ^ c
    const twos1 = (a & b) | (ab & c)
    const de = d ^ e
    const ones2 = de ^ f
    const twos2 = (d & e) | (de & f)
    const oo = ones1 ^ ones2
    const ones = oo ^ g
    const twos3 = (ones1 & ones2) | (oo & g)
    const tt = twos1 ^ twos2
    const twos = tt ^ twos3
    const fours = (twos1 & twos2) | (tt & twos3)
    let carry = add(counters, w, ones, 0)
    carry = add(counters, w + words, twos, carry)
    carry = add(counters, w + 2 * words, fours, carry)
    for (let at = w + 3 * words; carry !== 0; at += words) carry = add(counters, at, 0, carry)
  }
}

type Seven = [number, number, number, number, number, number, number]

/** Adds two bits to one of the counters, for 32 centroids. @returns what is carried */
function add(counters: Int32Array, at: number, bits: number, carry: number): number {
  const before = counters[at]!
  const half = before ^ bits
  counters[at] = half ^ carry
  return (before & bits) | (half & carry)
}

/** The centroids with the highest counts, at most `CANDIDATES`: decided from the highest bit down, as one sorts by digits. */
function select(counters: Int32Array, words: number, count: number): number[] {
  /** Of which the bits so far are higher than those of the last one that is taken. */
  const taken = new Int32Array(words)
  /** Of which they are equal. */
  const level = new Int32Array(words).fill(-1)
  if (count % 32 !== 0) level[words - 1] = (1 << (count % 32)) - 1
  let room = CANDIDATES
  for (let bit = COUNTER_BITS - 1; bit >= 0; bit--) {
    const start = bit * words
    let high = 0
    for (let w = 0; w < words; w++) high += ones(level[w]! & counters[start + w]!)
    if (high <= room) {
      room -= high
      for (let w = 0; w < words; w++) {
        const bits = counters[start + w]!
        taken[w] |= level[w]! & bits
        level[w] &= ~bits
      }
    } else for (let w = 0; w < words; w++) level[w] &= counters[start + w]!
  }
  const found: number[] = []
  const collect = (masks: Int32Array) => {
    for (let w = 0; w < words; w++) {
      for (let mask = masks[w]!; mask !== 0 && found.length < CANDIDATES; mask &= mask - 1)
        found.push(32 * w + 31 - Math.clz32(mask & -mask))
    }
  }
  collect(taken)
  collect(level)
  return found
}

function ones(word: number): number {
  let bits = word - ((word >>> 1) & 0x55555555)
  bits = (bits & 0x33333333) + ((bits >>> 2) & 0x33333333)
  return Math.imul((bits + (bits >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24
}
