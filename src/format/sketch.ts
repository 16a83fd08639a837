/**
 * A sketch is eight values per tensor at positions that follow from its name and size alone. It tells whether
 * weights in VRAM, of whatever dtype, are those that an expert was made for: the same file serves every dtype
 * of its base, and other weights of the same shapes are refused.
 *
 * Tensors are compared one by one, matrices apart from vectors, because weights of normalizations, near 1, outweigh
 * all matrices in a norm over all values. What a float copy may differ by is bounded for every value, so a single
 * tensor beyond that decides. Of quantization only the usual size is known, so the quantized tensors are judged
 * together: the squares of their differences against those of their spreads, no tensor weighing much more than others.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import type { WeightDtype } from './dtype.ts'
import { invalid, text } from './fields.ts'
import { fromHalf, toHalf } from './float16.ts'
import { SKETCH_VALUES } from './limits.ts'

/** The {@link SKETCH_VALUES} flat row-major positions of a tensor (in checkpoint layout), by name and size. */
export function sketchPositions(name: string, weights: number): number[] {
  // FNV-1a over the name, then splitmix32.
  let state = 0x811c9dc5
  for (const byte of new TextEncoder().encode(name)) state = Math.imul(state ^ byte, 0x01000193)
  return Array.from({ length: SKETCH_VALUES }, () => {
    state = (state + 0x9e3779b9) | 0
    let z = Math.imul(state ^ (state >>> 16), 0x85ebca6b)
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35)
    return ((z ^ (z >>> 16)) >>> 0) % weights
  })
}

/** The sketch of one tensor from its values. */
export function sketchOf(
  name: string,
  values: { readonly length: number; readonly [i: number]: number },
): Uint16Array {
  return Uint16Array.from(sketchPositions(name, values.length), (position) => toHalf(values[position]))
}

/** Largest relative difference of one value between a sketch and a float copy of its base: one unit of f16. */
const FLOAT_UNIT = 2 ** -10
/** The same where one side has been through bfloat16, by rounding or by truncation. */
const BFLOAT16_UNIT = 2 ** -7
/** Subnormal f16 values lose up to half of this in a sketch; f16 arithmetic may take all of them for 0. */
const SUBNORMAL_UNIT = 2 ** -24
const SMALLEST_NORMAL = 2 ** -14

/** Root mean squares of the differences that quantization makes, in units of a tensor's spread. */
interface Rounding {
  /** Limit over many tensors. */
  typical: number
  /** Limit of one alone: eight values estimate a spread poorly. */
  single: number
}

/**
 * Own roundings are at 0.01 to 0.03 (8 bits), 0.09 to 0.17 (4 bits in blocks of 32, tails as of a normal distribution to
 * very heavy ones) and about 0.5 (2 bits); an unrelated base is at 1.4.
 */
const ROUNDING: Partial<Record<WeightDtype, Rounding>> = {
  q8: { typical: 0.025, single: 0.1 },
  q4: { typical: 0.185, single: 0.5 },
  q2: { typical: 0.8, single: 1 },
}

/** Weights of one scale for which {@link ROUNDING} holds. */
const USUAL_BLOCK = 32
/** What each doubling of a block adds: the largest of more weights is larger, and so is the step. */
const WIDER_BLOCK = 1 / 6

/** Where all values of a tensor are multiples of one step, in units of it: rounding to nearest makes 1/√12, 1/2 at most. */
const STEP_ROUNDING: Rounding = { typical: 0.36, single: 0.55 }
/** Quantized values are at most this many steps from 0. */
const MAX_STEPS = 255

/** How fast the limit over n tensors falls from that of one to that of many. */
const LIMIT_EXPONENT = -0.75

/** The base's values of one tensor, as an expert knows them and as they were found. */
export interface SketchedTensor {
  name: string
  /** f16 bits, one for each of {@link SKETCH_VALUES}; not finite where there is no value to compare. */
  expected: Uint16Array
  found: ArrayLike<number>
  /** What the values found have been rounded to. */
  dtype: WeightDtype
  /** Weights that share a scale in what was found, where that is known and it was quantized in blocks. */
  blockSize?: number
  /** What the values expected had been rounded to before they became a sketch; float by default. */
  expectedDtype?: WeightDtype
}

/**
 * - `same`: equal up to the rounding of floats;
 * - `rounded`: equal up to quantization, as are siblings that moved by less than it;
 * - `alike`: equal, but every tensor is constant where it was looked at, as in many other models;
 * - `other`: not the same base.
 */
export type SketchVerdict = 'same' | 'rounded' | 'alike' | 'other'

export interface SketchComparison {
  same: boolean
  /** What decided: a difference in units of a tensor's spread (the largest, or a median over tensors). */
  distance: number
  /** The largest that is still the same base. */
  tolerance: number
}

export interface BaseComparison extends SketchComparison {
  verdict: SketchVerdict
  /** The tensor that decided, or was furthest off. */
  tensor?: string
  /** Tensors that differ by more than float rounding. */
  differing: number
}

/** Compares sketch values (as f16 bits), {@link SKETCH_VALUES} for each tensor, with those found there. */
export function compareSketch(
  expected: Uint16Array,
  found: ArrayLike<number>,
  dtype: WeightDtype,
): SketchComparison {
  const values = Array.from(expected, (_, i) => found[i])
  const tensors = Array.from({ length: Math.ceil(expected.length / SKETCH_VALUES) }, (_, t) => {
    const [start, end] = [t * SKETCH_VALUES, (t + 1) * SKETCH_VALUES]
    return { name: '', expected: expected.subarray(start, end), found: values.slice(start, end), dtype }
  })
  const { same, distance, tolerance } = compareBase(tensors)
  return { same, distance, tolerance }
}

/** Whether the weights found are those of the base that the sketches are of. */
export function compareBase(tensors: readonly SketchedTensor[]): BaseComparison {
  const deviations = together(tensors).map(deviationOf)
  const beyond = deviations.filter(({ difference, float }) => difference > float)
  const differing = beyond.length
  // What floats may differ by is certain.
  const floats = beyond.filter(({ rounding }) => rounding === undefined)
  const worst = largest(
    floats.length > 0 ? floats : deviations,
    ({ difference, float }) => difference / float,
  )
  if (floats.length > 0 || differing === 0) {
    const { name: tensor, difference = 0, float = 0, spread = 1 } = worst ?? {}
    const [distance, tolerance] = [difference / spread, float / spread]
    const equal = deviations.some(({ isConstant }) => !isConstant) ? 'same' : 'alike'
    const verdict = floats.length > 0 ? 'other' : equal
    return { verdict, same: verdict !== 'other', tensor, distance, tolerance, differing }
  }
  const middle = medianOf(beyond.map(({ spread }) => spread ** 2))
  const share = differing ** LIMIT_EXPONENT
  let [found, allowed, scale] = [0, 0, 0]
  for (const { difference, spread, rounding } of beyond) {
    const { typical, single } = rounding!
    const weight = 1 / (spread ** 2 + middle)
    found += weight * difference ** 2
    allowed += weight * (typical + (single - typical) * share) ** 2
    scale += weight * spread ** 2
  }
  const same = found <= allowed
  const far = largest(beyond, ({ difference, rounding }) => difference / rounding!.single)
  return {
    verdict: same ? 'rounded' : 'other',
    same,
    tensor: far?.name,
    distance: Math.sqrt(found / scale),
    tolerance: Math.sqrt(allowed / scale),
    differing,
  }
}

/**
 * Tensors of which few values are known, joined until they have as many as a sketch has of one: two values tell nothing of a
 * spread. Only matrices rounded alike go together; their spreads differ little within a model.
 */
function together(tensors: readonly SketchedTensor[]): SketchedTensor[] {
  const out: SketchedTensor[] = []
  const open = new Map<string, { tensor: SketchedTensor; known: number }>()
  for (const tensor of tensors) {
    const known = tensor.expected.reduce((sum, bits) => sum + (bits === NO_VALUE ? 0 : 1), 0)
    if (known === 0 || known > SKETCH_VALUES / 2) {
      out.push(tensor)
      continue
    }
    const key = `${tensor.dtype} ${tensor.blockSize} ${tensor.expectedDtype}`
    const group = open.get(key)
    if (group === undefined || group.known + known > SKETCH_VALUES) {
      const own = { tensor: { ...tensor }, known }
      open.set(key, own)
      out.push(own.tensor)
      continue
    }
    group.known += known
    group.tensor.name = `${group.tensor.name}, ${tensor.name}`
    group.tensor.expected = Uint16Array.of(...group.tensor.expected, ...tensor.expected)
    group.tensor.found = Float64Array.of(
      ...Array.from(
        group.tensor.expected.subarray(0, -tensor.expected.length),
        (_, i) => group.tensor.found[i],
      ),
      ...Array.from(tensor.expected, (_, i) => tensor.found[i]),
    )
  }
  return out
}

interface Deviation {
  name: string
  /** Root mean square of the differences; infinite where a value is missing. */
  difference: number
  /** Standard deviation of the expected values. */
  spread: number
  /** The difference that float copies stay under. */
  float: number
  /** Differences that a quantized tensor may have. */
  rounding?: Rounding
  /** All values expected are one, which many models have there. */
  isConstant: boolean
}

function deviationOf({
  name,
  expected,
  found,
  dtype,
  blockSize,
  expectedDtype = 'f32',
}: SketchedTensor): Deviation {
  const pairs = Array.from(expected, (bits, i) => ({ value: fromHalf(bits), other: found[i] ?? Number.NaN }))
  const known = pairs.filter(({ value }) => Number.isFinite(value))
  const count = Math.max(known.length, 1)
  const sum = (of: (pair: { value: number; other: number }) => number) =>
    known.reduce((total, pair) => total + of(pair), 0) / count
  const mean = sum(({ value }) => value)
  // A constant has no spread: a tenth of its size takes the place, and 1 that of 0.
  const spread = Math.sqrt(sum(({ value }) => (value - mean) ** 2) + (mean / 10) ** 2) || 1
  const [values, others] = [known.map(({ value }) => value), known.map(({ other }) => other)]
  // Where both sides are of bfloat16, they are equal.
  const unit = isBfloat16(values) === isBfloat16(others) ? FLOAT_UNIT : BFLOAT16_UNIT
  const least = dtype === 'f32' ? SUBNORMAL_UNIT : SMALLEST_NORMAL
  const difference = Math.sqrt(sum(({ value, other }) => (other - value) ** 2))
  return {
    name,
    difference: Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference,
    spread,
    float: Math.sqrt(sum(({ value }) => Math.max(unit * Math.abs(value), least) ** 2)),
    rounding: joined(roundingOf(dtype, spread, others, blockSize), roundingOf(expectedDtype, spread, values)),
    isConstant: known.every(({ value }) => value === known[0].value),
  }
}

function roundingOf(
  dtype: WeightDtype,
  spread: number,
  values: readonly number[],
  blockSize = USUAL_BLOCK,
): Rounding | undefined {
  const rounding = ROUNDING[dtype]
  if (rounding === undefined) return undefined
  const step = dtype === 'q8' ? stepOf(values) : undefined
  const wider = 1 + WIDER_BLOCK * Math.max(0, Math.log2(blockSize / USUAL_BLOCK))
  return step === undefined ? times(rounding, spread * wider) : times(STEP_ROUNDING, step)
}

function times({ typical, single }: Rounding, unit: number): Rounding {
  return { typical: typical * unit, single: single * unit }
}

/** The step that all values are multiples of, if it is one that quantization makes: the largest such. */
function stepOf(values: readonly number[]): number | undefined {
  const most = values.reduce((max, value) => Math.max(max, Math.abs(value)), 0)
  if (!(most > 0)) return undefined
  for (let steps = 1; steps <= MAX_STEPS; steps++) {
    const isMultiple = (value: number) => {
      const count = (value / most) * steps
      return Math.abs(count - Math.round(count)) < 0.01
    }
    // Fewer distinct values may be multiples of anything.
    if (values.every(isMultiple)) return new Set(values).size >= 5 ? most / steps : undefined
  }
  return undefined
}

function medianOf(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2
}

/** Two roundings that know nothing of each other. */
function joined(a: Rounding | undefined, b: Rounding | undefined): Rounding | undefined {
  if (a === undefined || b === undefined) return a ?? b
  return { typical: Math.hypot(a.typical, b.typical), single: Math.hypot(a.single, b.single) }
}

/** Whether values have no more than the eight significant bits of bfloat16, and some have more than four. */
function isBfloat16(values: readonly number[]): boolean {
  return (
    values.every((value) => !hasMoreBits(value, 8)) &&
    values.filter((value) => hasMoreBits(value, 4)).length >= SKETCH_VALUES / 2
  )
}

function hasMoreBits(value: number, bits: number): boolean {
  if (value === 0) return false
  const scaled = (value / 2 ** Math.floor(Math.log2(Math.abs(value)))) * 2 ** (bits - 1)
  return !Number.isInteger(scaled)
}

function largest<T>(items: readonly T[], of: (item: T) => number): T | undefined {
  let best: T | undefined
  for (const item of items) if (best === undefined || of(item) > of(best)) best = item
  return best
}

/** NaN in f16: a value that a sketch does not have. */
export const NO_VALUE = 0x7e00

/**
 * Values of each target that the sketch of an expert of terms stores: as many as fit two kilobytes, so that the head stays small
 * beside what the file holds. Targets are compared together where they have few.
 */
export function sketchValuesFor(targets: number): number {
  return [8, 4, 2].find((values) => values * targets <= 1024) ?? 1
}

/** Values of each target that a sketch has: the rest are {@link NO_VALUE} for all. */
export function valuesStored(sketch: Uint16Array): number {
  for (let stored = SKETCH_VALUES; stored > 1; stored--) {
    for (let at = stored - 1; at < sketch.length; at += SKETCH_VALUES)
      if (sketch[at] !== NO_VALUE) return stored
  }
  return Math.min(1, SKETCH_VALUES)
}

/** The first `stored` values of each target as the table stores them: u16, little-endian, in base64. */
export function sketchToBase64(sketch: Uint16Array, stored = SKETCH_VALUES): string {
  let binary = ''
  const values = sketch.filter((_, i) => i % SKETCH_VALUES < stored)
  for (const value of values) binary += String.fromCharCode(value & 0xff, value >>> 8)
  return btoa(binary)
}

/** @throws {TritswapError} `format` unless it is a sketch of as many targets */
export function sketchFromBase64(
  value: unknown,
  targets: number,
  stored = SKETCH_VALUES,
): Uint16Array | undefined {
  if (value === undefined) return undefined
  const expected = targets * stored
  let binary: string
  try {
    binary = atob(text(value, 'base.sketch', Math.ceil((expected * 2) / 3) * 4))
  } catch (cause) {
    throw new TritswapError('format', 'Cannot read base.sketch: it is not base64 of the right length', {
      cause,
    })
  }
  if (binary.length !== expected * 2) throw invalid('base.sketch', `${expected} values`, binary.length / 2)
  return Uint16Array.from({ length: targets * SKETCH_VALUES }, (_, i) => {
    const own = i % SKETCH_VALUES
    if (own >= stored) return NO_VALUE
    const at = 2 * (Math.floor(i / SKETCH_VALUES) * stored + own)
    return binary.charCodeAt(at) | (binary.charCodeAt(at + 1) << 8)
  })
}
