/**
 * Algebra of experts without expanding them: a ternary tensor is two bit masks, of its positive and its negative
 * entries, and sums over it are counts of bits (ComPEFT section 2.3). Only words with a bit set are held, so work and
 * memory go with the entries that a file really has.
 *
 * With M = P | N, of scales s and t:
 * dot = s·t·[|M₁ & M₂| − 2·|M₁ & M₂ & (N₁ ^ N₂)|], cosine = dot / (s·t·√(|M₁|·|M₂|)), and the L1 distance of the
 * signs is |P₁ ^ P₂| + |N₁ ^ N₂|.
 *
 * Of terms the vectors are masks, and dot = Σ dᵢ·dⱼ·(xᵢ · xⱼ)(yᵢ · yⱼ) over the terms of both: the matrices are never made.
 *
 * @module
 */
import {
  decodeEntries,
  decodeTermsOf,
  decodeValues,
  type ScaledEntries,
  sortedCodes,
} from '../format/codecs/index.ts'
import type { Terms } from '../format/codecs/terms_code.ts'
import { readSection } from '../format/section.ts'
import type { TritTensor } from '../format/table.ts'
import { tilingOf } from '../format/tiling.ts'
import type { ReadOptions } from '../source/source.ts'
import type { OpenExpert } from './open_expert.ts'

/** A ternary tensor as bits: weight i is bit `i mod 32` of word `i / 32`. */
export interface TernaryMasks {
  /** Numbers of the words that follow, ascending. */
  words: Uint32Array
  positive: Uint32Array
  negative: Uint32Array
  /** What an entry is worth. */
  scale: number
}

/** Terms with their vectors as bits. */
export interface TermsMasks {
  terms: readonly { scale: number; x: VectorMasks; y: VectorMasks }[]
  /** A value of the matrix by its flat row-major index, for where it meets a tensor without terms. */
  at(index: number): number
}

/** Entry i of a vector is bit `i mod 32` of word `i / 32`. */
interface VectorMasks {
  positive: Uint32Array
  negative: Uint32Array
}

/** A tensor in the form that its codec allows. */
export type Operand = TernaryMasks | TermsMasks | Float32Array

/** Sums over the weights of one or more tensors of two experts, from which all measures follow. */
export interface PairSums {
  dot: number
  /** ‖a‖² and ‖b‖². */
  squares: [number, number]
  /** Sums weight by weight; undefined with terms, which touch every weight and are never written out. */
  byWeight?: WeightSums
}

export interface WeightSums {
  /** Σ |a − b|. */
  l1: number
  /** Σ |sign a − sign b|. */
  signL1: number
  /** Weights where both are not 0, and where at least one is. */
  shared: number
  either: number
  /** Shared weights of the same sign. */
  agreeing: number
}

const NO_WEIGHTS: WeightSums = { l1: 0, signL1: 0, shared: 0, either: 0, agreeing: 0 }
export const NO_SUMS: PairSums = { dot: 0, squares: [0, 0], byWeight: NO_WEIGHTS }

/** Bit masks of the entries of a tensor. */
export function masksOf(entries: ScaledEntries): TernaryMasks {
  const codes = sortedCodes(entries)
  let count = 0
  for (let i = 0; i < codes.length; i++) if (i === 0 || codes[i] >>> 6 !== codes[i - 1] >>> 6) count++
  const words = new Uint32Array(count)
  const positive = new Uint32Array(count)
  const negative = new Uint32Array(count)
  let at = -1
  for (let i = 0; i < codes.length; i++) {
    const code = codes[i]
    if (at < 0 || code >>> 6 !== words[at]) words[++at] = code >>> 6
    const masks = code & 1 ? negative : positive
    masks[at] |= 1 << ((code >>> 1) & 31)
  }
  return { words, positive, negative, scale: entries.scale }
}

/** Reads one tensor of an expert in the form that sums are taken of. */
export async function readOperand(
  { source, head }: OpenExpert,
  tensor: TritTensor,
  options?: ReadOptions,
): Promise<Operand> {
  const section = await readSection(source, head, tensor, options)
  const entries = decodeEntries(tensor, section)
  if (entries !== undefined) return masksOf(entries)
  const terms = decodeTermsOf(tensor, section)
  return terms === undefined ? decodeValues(tensor, section) : termsMasksOf(terms, tensor.shape)
}

/** Bit masks of the vectors of terms of a tensor of this shape. */
export function termsMasksOf(terms: Terms, shape: readonly number[]): TermsMasks {
  const { scales, x, y } = terms
  const { rows, cols } = tilingOf(shape)
  const count = scales.length
  const part = (entries: Int8Array, t: number) => {
    const length = entries.length / count
    return vectorMasks(entries.subarray(t * length, (t + 1) * length))
  }
  return {
    terms: Array.from(scales, (scale, t) => ({ scale, x: part(x, t), y: part(y, t) })),
    at(index) {
      const [row, col] = [Math.floor(index / cols), index % cols]
      return scales.reduce((sum, scale, t) => sum + scale * x[t * rows + row] * y[t * cols + col], 0)
    },
  }
}

function vectorMasks(entries: Int8Array): VectorMasks {
  const positive = new Uint32Array(Math.ceil(entries.length / 32))
  const negative = new Uint32Array(positive.length)
  for (const [i, entry] of entries.entries())
    if (entry !== 0) (entry > 0 ? positive : negative)[i >>> 5] |= 1 << (i & 31)
  return { positive, negative }
}

/** The sums of one tensor; undefined is a tensor that an expert does not have, and so does not change. */
export function pairSums(a: Operand | undefined, b: Operand | undefined): PairSums {
  if (a === undefined && b === undefined) return NO_SUMS
  if (isTerms(a) || isTerms(b)) return termsSums(a, b)
  if (isDense(a)) return denseSums(a, isDense(b) ? b : valuesOf(b, a.length))
  if (isDense(b)) return denseSums(valuesOf(a, b.length), b)
  return ternarySums(a ?? EMPTY, b ?? EMPTY)
}

/** Sums where at least one of the two is terms. */
function termsSums(a: Operand | undefined, b: Operand | undefined): PairSums {
  if ((a === undefined || isTerms(a)) && (b === undefined || isTerms(b))) {
    const [own, other] = [a?.terms ?? [], b?.terms ?? []]
    return { dot: termsDot(own, other), squares: [termsDot(own, own), termsDot(other, other)] }
  }
  const [left, right] = [squareOf(a), squareOf(b)]
  const dot = isTerms(a) ? sumOver(b as Entries, a.at) : sumOver(a as Entries, (b as TermsMasks).at)
  return { dot, squares: [left, right] }
}

/** A tensor without terms. */
type Entries = TernaryMasks | Float32Array

function squareOf(operand: Operand | undefined): number {
  return isTerms(operand) ? termsDot(operand.terms, operand.terms) : pairSums(operand, undefined).squares[0]
}

/** Σ value · other(index), over the values that are not 0. */
function sumOver(values: Entries, other: (index: number) => number): number {
  let sum = 0
  if (isDense(values)) {
    for (let i = 0; i < values.length; i++) if (values[i] !== 0) sum += values[i] * other(i)
    return sum
  }
  const { words, positive, negative, scale } = values
  for (const [i, word] of words.entries())
    for (let bit = 0; bit < 32; bit++) {
      const sign = ((positive[i] >>> bit) & 1) - ((negative[i] >>> bit) & 1)
      if (sign !== 0) sum += sign * scale * other(32 * word + bit)
    }
  return sum
}

function termsDot(a: TermsMasks['terms'], b: TermsMasks['terms']): number {
  let sum = 0
  for (const own of a)
    for (const other of b)
      sum += own.scale * other.scale * vectorDot(own.x, other.x) * vectorDot(own.y, other.y)
  return sum
}

/** The inner product of two vectors of −1, 0 and 1. */
function vectorDot(a: VectorMasks, b: VectorMasks): number {
  let sum = 0
  for (let i = 0; i < a.positive.length; i++) {
    const both = (a.positive[i] | a.negative[i]) & (b.positive[i] | b.negative[i])
    sum += popcount(both) - 2 * popcount(both & (a.negative[i] ^ b.negative[i]))
  }
  return sum
}

const EMPTY = masksOf({ indices: new Uint32Array(), negative: new Uint8Array(), scale: 0 })

/** Both masks of a word without entries. */
const NOTHING = [0, 0] as const

function ternarySums(a: TernaryMasks, b: TernaryMasks): PairSums {
  let onlyA = 0
  let onlyB = 0
  let shared = 0
  let conflicting = 0
  let signL1 = 0
  for (let i = 0, j = 0; i < a.words.length || j < b.words.length; ) {
    const word = Math.min(a.words[i] ?? Infinity, b.words[j] ?? Infinity)
    const [plusA, minusA] = a.words[i] === word ? [a.positive[i], a.negative[i++]] : NOTHING
    const [plusB, minusB] = b.words[j] === word ? [b.positive[j], b.negative[j++]] : NOTHING
    const inA = plusA | minusA
    const inB = plusB | minusB
    const both = inA & inB
    shared += popcount(both)
    onlyA += popcount(inA & ~both)
    onlyB += popcount(inB & ~both)
    conflicting += popcount(both & (minusA ^ minusB))
    signL1 += popcount(plusA ^ plusB) + popcount(minusA ^ minusB)
  }
  const agreeing = shared - conflicting
  const [s, t] = [a.scale, b.scale]
  return {
    dot: s * t * (agreeing - conflicting),
    squares: [s * s * (onlyA + shared), t * t * (onlyB + shared)],
    byWeight: {
      l1:
        Math.abs(s) * onlyA +
        Math.abs(t) * onlyB +
        Math.abs(s - t) * agreeing +
        Math.abs(s + t) * conflicting,
      signL1,
      shared,
      either: onlyA + onlyB + shared,
      agreeing,
    },
  }
}

/** Bits that are set (Warren, Hacker's Delight, 5-1). */
export function popcount(word: number): number {
  let bits = word - ((word >>> 1) & 0x55555555)
  bits = (bits & 0x33333333) + ((bits >>> 2) & 0x33333333)
  return Math.imul((bits + (bits >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24
}

/** The same sums where one of the two is not ternary. */
function denseSums(a: Float32Array, b: Float32Array): PairSums {
  const sums = { ...NO_WEIGHTS }
  const squares: [number, number] = [0, 0]
  let dot = 0
  for (let i = 0; i < a.length; i++) {
    const [x, y] = [a[i], b[i]]
    if (x === 0 && y === 0) continue
    dot += x * y
    squares[0] += x * x
    squares[1] += y * y
    sums.l1 += Math.abs(x - y)
    sums.signL1 += Math.abs(Math.sign(x) - Math.sign(y))
    sums.either++
    if (x === 0 || y === 0) continue
    sums.shared++
    if (x > 0 === y > 0) sums.agreeing++
  }
  return { dot, squares, byWeight: sums }
}

function isTerms(operand: Operand | undefined): operand is TermsMasks {
  return operand !== undefined && 'terms' in operand
}

function isDense(operand: Operand | undefined): operand is Float32Array {
  return operand instanceof Float32Array
}

/** Values of masks in flat row-major order; undefined is all zero. */
function valuesOf({ words, positive, negative, scale }: TernaryMasks = EMPTY, weights: number): Float32Array {
  const values = new Float32Array(weights)
  for (const [i, word] of words.entries()) {
    for (let bit = 0; bit < 32; bit++) {
      if ((positive[i] >>> bit) & 1) values[32 * word + bit] = scale
      else if ((negative[i] >>> bit) & 1) values[32 * word + bit] = -scale
    }
  }
  return values
}

export function addSums(a: PairSums, b: PairSums): PairSums {
  return {
    dot: a.dot + b.dot,
    squares: [a.squares[0] + b.squares[0], a.squares[1] + b.squares[1]],
    byWeight: a.byWeight &&
      b.byWeight && {
        l1: a.byWeight.l1 + b.byWeight.l1,
        signL1: a.byWeight.signL1 + b.byWeight.signL1,
        shared: a.byWeight.shared + b.byWeight.shared,
        either: a.byWeight.either + b.byWeight.either,
        agreeing: a.byWeight.agreeing + b.byWeight.agreeing,
      },
  }
}
