/**
 * Steps from one float to another of the same type: how far apart two weights are in units in the last place. All patterns
 * of a type are numbered in the order of their values, −0 just below 0, so that every one of them can be reached from every other.
 *
 * @module
 */
import { bitsFromHalf, halfFromBits } from './float16.ts'
import { type Tile, tileAt, tilingOf } from './tiling.ts'

/** The type whose values steps are counted in. */
export type StepUnit = (typeof STEP_UNITS)[number]

export const STEP_UNITS = ['bf16', 'f16', 'f32'] as const

/** Bits of a pattern. */
export function unitBits(unit: StepUnit): 16 | 32 {
  return unit === 'f32' ? 32 : 16
}

/** Steps of a tensor. */
export interface Steps {
  /** Where each entry is: weights are counted block after block (`tilingOf`), row-major in each. Ascending. */
  places: Uint32Array<ArrayBuffer>
  /** How many values up, or down where it is negative; not 0. Of 16-bit units −2¹⁵ to 2¹⁵ − 1, modulo 2¹⁶. */
  steps: Int32Array<ArrayBuffer>
}

/** The entries of one block: `[first, end)`. */
export interface BlockOfSteps {
  block: number
  tile: Tile
  /** Place of the first weight of the block. */
  before: number
  first: number
  end: number
}

/** The blocks of a tensor with the entries of each. */
export function* stepBlocks(
  shape: readonly number[],
  { places }: Pick<Steps, 'places'>,
): Generator<BlockOfSteps> {
  const tiling = tilingOf(shape)
  for (let block = 0, before = 0, first = 0; block < tiling.blocks; block++) {
    const tile = tileAt(tiling, block)
    const behind = before + tile.height * tile.width
    let end = first
    while (end < places.length && places[end] < behind) end++
    yield { block, tile, before, first, end }
    before = behind
    first = end
  }
}

/** Calls back with the flat row-major index of every entry, in the order of their places. */
export function forEachStep(
  shape: readonly number[],
  all: Steps,
  take: (index: number, step: number) => void,
): void {
  const { cols } = tilingOf(shape)
  for (const { tile, before, first, end } of stepBlocks(shape, all)) {
    for (let i = first; i < end; i++) {
      const position = all.places[i] - before
      const row = Math.floor(position / tile.width)
      take((tile.row + row) * cols + tile.col + position - row * tile.width, all.steps[i])
    }
  }
}

/** The pattern nearest to a binary32, ties to even. @param bits - of the binary32 */
export function unitFromBits(bits: number, unit: StepUnit): number {
  if (unit === 'f32') return bits >>> 0
  if (unit === 'f16') return halfFromBits(bits)
  const isNotANumber = (bits & 0x7fffffff) > 0x7f800000
  // A carry out of the mantissa goes to the exponent, as it has to; a payload in the low half alone would become an infinity.
  return isNotANumber ? (bits >>> 16) | 0x40 : ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff
}

/** Bits of the binary32 with the value of a pattern; exact. */
export function bitsFromUnit(pattern: number, unit: StepUnit): number {
  if (unit === 'f32') return pattern >>> 0
  return unit === 'f16' ? bitsFromHalf(pattern) : (pattern << 16) >>> 0
}

/** Number of a pattern in the order of values. */
function ordinalOf(pattern: number, unit: StepUnit): number {
  const sign = unit === 'f32' ? 0x80000000 : 0x8000
  return (pattern & sign) === 0 ? (pattern | sign) >>> 0 : ~pattern & (2 * sign - 1)
}

function patternOf(ordinal: number, unit: StepUnit): number {
  const sign = unit === 'f32' ? 0x80000000 : 0x8000
  return (((ordinal & sign) === 0 ? ~ordinal : ordinal ^ sign) & (2 * sign - 1)) >>> 0
}

/** Steps from one pattern to another, modulo the number of patterns. */
export function stepsBetween(from: number, to: number, unit: StepUnit): number {
  const distance = ordinalOf(to, unit) - ordinalOf(from, unit)
  return unit === 'f32' ? distance | 0 : (distance << 16) >> 16
}

/** The pattern `step` values up. The WGSL twin is `stepped` in `shaders/steps.wgsl`. */
export function stepped(pattern: number, step: number, unit: StepUnit): number {
  return patternOf((ordinalOf(pattern, unit) + step) >>> 0, unit)
}

const value = new Float32Array(1)
const bits = new Uint32Array(value.buffer)

/** A weight after a step, as f32: from the value of the unit that is nearest to it. */
export function steppedValue(weight: number, step: number, unit: StepUnit): number {
  value[0] = weight
  bits[0] = bitsFromUnit(stepped(unitFromBits(bits[0], unit), step, unit), unit)
  return value[0]
}
