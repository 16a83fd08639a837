/**
 * Algebra of experts without expanding them: a ternary tensor is two bit masks, of its positive and its negative
 * entries, and sums over it are counts of bits (ComPEFT section 2.3).
 *
 * With M = P | N, of scales s and t:
 * dot = s·t·[|M₁ & M₂| − 2·|M₁ & M₂ & (N₁ ^ N₂)|], cosine = dot / (s·t·√(|M₁|·|M₂|)), and the L1 distance of the
 * signs is |P₁ ^ P₂| + |N₁ ^ N₂|.
 *
 * @module
 */
import { decodeBands, decodeValues } from '../format/codecs/index.ts'
import type { TernaryEntries } from '../format/codecs/ternary_decode.ts'
import { readSection } from '../format/section.ts'
import type { TritTensor } from '../format/table.ts'
import { weightsOf } from '../format/tiling.ts'
import type { ReadOptions } from '../source/source.ts'
import type { OpenExpert } from './open_expert.ts'

/** A ternary tensor as bits: weight i is bit `i mod 32` of word `i / 32`. */
export interface TernaryMasks {
  positive: Uint32Array
  negative: Uint32Array
  /** What an entry is worth. */
  scale: number
}

/** A tensor in the form that its codec allows. */
export type Operand = TernaryMasks | Float32Array

/** Sums over the weights of one or more tensors of two experts, from which all measures follow. */
export interface PairSums {
  dot: number
  /** ‖a‖² and ‖b‖². */
  squares: [number, number]
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

export const NO_SUMS: PairSums = {
  dot: 0,
  squares: [0, 0],
  l1: 0,
  signL1: 0,
  shared: 0,
  either: 0,
  agreeing: 0,
}

/** Bit masks of the entries of a tensor with `weights` weights. */
export function masksOf(weights: number, bands: readonly TernaryEntries[], scale: number): TernaryMasks {
  const masks = {
    positive: new Uint32Array(Math.ceil(weights / 32)),
    negative: new Uint32Array(Math.ceil(weights / 32)),
    scale,
  }
  for (const { indices, negative } of bands) {
    for (let i = 0; i < indices.length; i++) {
      const words = negative[i] === 0 ? masks.positive : masks.negative
      words[indices[i] >>> 5] |= 1 << (indices[i] & 31)
    }
  }
  return masks
}

/** Reads one tensor of an expert in the form that sums are taken of. */
export async function readOperand(
  { source, head }: OpenExpert,
  tensor: TritTensor,
  options?: ReadOptions,
): Promise<Operand> {
  const section = await readSection(source, head, tensor, options)
  const weights = weightsOf(tensor.shape)
  const entries = decodeBands(tensor, section)
  return entries === undefined
    ? decodeValues(tensor, section)
    : masksOf(weights, entries.bands, entries.scale)
}

/** The sums of one tensor; undefined is a tensor that an expert does not have, and so does not change. */
export function pairSums(a: Operand | undefined, b: Operand | undefined): PairSums {
  if (a === undefined && b === undefined) return NO_SUMS
  if (isDense(a) || isDense(b)) return denseSums(valuesOf(a), valuesOf(b))
  return ternarySums(a ?? emptyLike(b), b ?? emptyLike(a))
}

function ternarySums(a: TernaryMasks, b: TernaryMasks): PairSums {
  let onlyA = 0
  let onlyB = 0
  let shared = 0
  let conflicting = 0
  let signL1 = 0
  for (let i = 0; i < a.positive.length; i++) {
    const inA = a.positive[i] | a.negative[i]
    const inB = b.positive[i] | b.negative[i]
    const both = inA & inB
    shared += popcount(both)
    onlyA += popcount(inA & ~both)
    onlyB += popcount(inB & ~both)
    conflicting += popcount(both & (a.negative[i] ^ b.negative[i]))
    signL1 += popcount(a.positive[i] ^ b.positive[i]) + popcount(a.negative[i] ^ b.negative[i])
  }
  const agreeing = shared - conflicting
  const [s, t] = [a.scale, b.scale]
  return {
    dot: s * t * (agreeing - conflicting),
    squares: [s * s * (onlyA + shared), t * t * (onlyB + shared)],
    l1:
      Math.abs(s) * onlyA + Math.abs(t) * onlyB + Math.abs(s - t) * agreeing + Math.abs(s + t) * conflicting,
    signL1,
    shared,
    either: onlyA + onlyB + shared,
    agreeing,
  }
}

/** Bits that are set (Warren, Hacker's Delight, 5-1). */
export function popcount(word: number): number {
  let bits = word - ((word >>> 1) & 0x55555555)
  bits = (bits & 0x33333333) + ((bits >>> 2) & 0x33333333)
  return Math.imul((bits + (bits >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24
}

/** The same sums where one of the two is not ternary; undefined is all zero. */
function denseSums(a: Float32Array | undefined, b: Float32Array | undefined): PairSums {
  const sums = { ...NO_SUMS, squares: [0, 0] as [number, number] }
  const length = Math.min(a?.length ?? Number.POSITIVE_INFINITY, b?.length ?? Number.POSITIVE_INFINITY)
  for (let i = 0; i < length; i++) {
    const x = a === undefined ? 0 : a[i]
    const y = b === undefined ? 0 : b[i]
    if (x === 0 && y === 0) continue
    sums.dot += x * y
    sums.squares[0] += x * x
    sums.squares[1] += y * y
    sums.l1 += Math.abs(x - y)
    sums.signL1 += Math.abs(Math.sign(x) - Math.sign(y))
    sums.either++
    if (x === 0 || y === 0) continue
    sums.shared++
    if (x > 0 === y > 0) sums.agreeing++
  }
  return sums
}

function isDense(operand: Operand | undefined): operand is Float32Array {
  return operand instanceof Float32Array
}

function emptyLike(other: TernaryMasks | undefined): TernaryMasks {
  const words = new Uint32Array(other?.positive.length ?? 0)
  return { positive: words, negative: words, scale: 0 }
}

/** Values of an operand in flat row-major order; of masks there may be up to 31 zeros more. */
function valuesOf(operand: Operand | undefined): Float32Array | undefined {
  if (operand === undefined || isDense(operand)) return operand
  const { positive, negative, scale } = operand
  return Float32Array.from({ length: positive.length * 32 }, (_, i) => {
    const bit = 1 << (i & 31)
    return positive[i >>> 5] & bit ? scale : negative[i >>> 5] & bit ? -scale : 0
  })
}

export function addSums(a: PairSums, b: PairSums): PairSums {
  return {
    dot: a.dot + b.dot,
    squares: [a.squares[0] + b.squares[0], a.squares[1] + b.squares[1]],
    l1: a.l1 + b.l1,
    signL1: a.signL1 + b.signL1,
    shared: a.shared + b.shared,
    either: a.either + b.either,
    agreeing: a.agreeing + b.agreeing,
  }
}
