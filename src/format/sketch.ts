/**
 * A sketch is eight values per tensor at positions that follow from its name and size alone. It tells whether
 * weights in VRAM, of whatever dtype, are those that an expert was made for: the same file serves every dtype
 * of its base, and another base of the same shape is refused.
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

/**
 * Largest ‖weights − sketch‖ / ‖sketch‖ that is still the same base. A float copy differs by the sketch's own f16
 * rounding (2⁻¹¹) or bf16's (2⁻⁹); block-wise 4-bit rounding by about 0.1; an unrelated base by about 1.4.
 */
const TOLERANCE: Record<WeightDtype, number> = { f32: 2 ** -7, f16: 2 ** -7, q8: 0.08, q4: 0.35 }

export interface SketchComparison {
  same: boolean
  /** ‖found − expected‖ / ‖expected‖ over all values given. */
  distance: number
  tolerance: number
}

/** Compares sketch values (as f16 bits) with what the base holds at the same positions. */
export function compareSketch(
  expected: Uint16Array,
  found: ArrayLike<number>,
  dtype: WeightDtype,
): SketchComparison {
  let difference = 0
  let norm = 0
  for (let i = 0; i < expected.length; i++) {
    const value = fromHalf(expected[i])
    if (!Number.isFinite(value)) continue
    difference += (found[i] - value) ** 2
    norm += value ** 2
  }
  const distance = norm === 0 ? Math.sqrt(difference) : Math.sqrt(difference / norm)
  return { same: distance <= TOLERANCE[dtype], distance, tolerance: TOLERANCE[dtype] }
}

/** A sketch as the table stores it: u16 values, little-endian, in base64. */
export function sketchToBase64(values: Uint16Array): string {
  let binary = ''
  for (const value of values) binary += String.fromCharCode(value & 0xff, value >>> 8)
  return btoa(binary)
}

/** @throws {TritswapError} `format` unless it is a sketch of as many targets */
export function sketchFromBase64(value: unknown, targets: number): Uint16Array | undefined {
  if (value === undefined) return undefined
  const expected = targets * SKETCH_VALUES
  let binary: string
  try {
    binary = atob(text(value, 'base.sketch', Math.ceil((expected * 2) / 3) * 4))
  } catch (cause) {
    throw new TritswapError('format', 'Cannot read base.sketch: it is not base64 of the right length', {
      cause,
    })
  }
  if (binary.length !== expected * 2) throw invalid('base.sketch', `${expected} values`, binary.length / 2)
  return Uint16Array.from(
    { length: expected },
    (_, i) => binary.charCodeAt(2 * i) | (binary.charCodeAt(2 * i + 1) << 8),
  )
}
