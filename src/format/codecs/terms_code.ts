/**
 * The bytes of a `terms` section: p scales in f32, then the entries of the p vectors over rows and of the p vectors over
 * columns, five a byte.
 *
 * @module
 */
import { TritswapError } from '../../errors.ts'
import { tilingOf } from '../tiling.ts'

/** A matrix of rows × cols as Σ scale · x · yᵀ, the entries of x and y being −1, 0 or 1. */
export interface Terms {
  /** One scale a term. */
  scales: Float32Array
  /** The vectors over the rows, term by term: rows entries each. */
  x: Int8Array
  /** The vectors over the columns, term by term: cols entries each. */
  y: Int8Array
}

/** Entries in a byte: 3⁵ = 243. */
const PER_BYTE = 5
const BYTE_VALUES = 3 ** PER_BYTE

/** Digits of the base 3, the first entry in the least significant one. */
const ENTRY_OF_DIGIT = [0, 1, -1] as const

/** Bytes of a section, a multiple of 4. */
export function termsBytes(shape: readonly number[], terms: number): number {
  const { rows, cols } = tilingOf(shape)
  return Math.ceil((4 * terms + Math.ceil((terms * (rows + cols)) / PER_BYTE)) / 4) * 4
}

/** @throws {TritswapError} `input` for entries other than −1, 0 and 1 */
export function encodeTerms(shape: readonly number[], { scales, x, y }: Terms): Uint8Array<ArrayBuffer> {
  const section = new Uint8Array(termsBytes(shape, scales.length))
  const view = new DataView(section.buffer)
  for (const [t, scale] of scales.entries()) view.setFloat32(4 * t, scale, true)
  const first = 4 * scales.length
  let at = 0
  for (const entries of [x, y]) {
    for (const entry of entries) {
      if (entry < -1 || entry > 1)
        throw new TritswapError('input', `Cannot encode terms: expected entries −1, 0 or 1, found ${entry}`)
      section[first + Math.floor(at / PER_BYTE)] += (entry < 0 ? 2 : entry) * 3 ** (at % PER_BYTE)
      at++
    }
  }
  return section
}

/**
 * The terms of a section; memory for them is at most five times its bytes.
 * @param section - of {@link termsBytes}, at any alignment
 * @throws {TritswapError} `format` for a byte of 243 or more, and for scales whose sum is not finite in f32
 */
export function decodeTerms(section: Uint8Array, shape: readonly number[], terms: number): Terms {
  const { rows, cols } = tilingOf(shape)
  const expected = termsBytes(shape, terms)
  if (section.byteLength < expected)
    throw broken(`${terms} terms take ${expected} bytes, it has ${section.byteLength}`)
  const view = new DataView(section.buffer, section.byteOffset, section.byteLength)
  const scales = Float32Array.from({ length: terms }, (_, t) => view.getFloat32(4 * t, true))
  const most = scales.reduce((sum, scale) => Math.fround(sum + Math.abs(scale)), 0)
  if (!Number.isFinite(most)) throw broken('its scales are not finite, or their sum is not')
  const entries = new Int8Array(terms * (rows + cols))
  for (let at = 0, byte = 4 * terms; at < entries.length; byte++) {
    let value = section[byte]
    if (value >= BYTE_VALUES)
      throw broken(`byte ${byte} is ${value}, over the ${BYTE_VALUES - 1} of five entries`)
    for (const end = Math.min(at + PER_BYTE, entries.length); at < end; at++) {
      entries[at] = ENTRY_OF_DIGIT[value % 3]
      value = Math.floor(value / 3)
    }
  }
  return { scales, x: entries.subarray(0, terms * rows), y: entries.subarray(terms * rows) }
}

/**
 * Elements `[from, to)` of the matrix, row-major. An element is the sum of its terms in their order, rounded to f32 after
 * each.
 */
export function termsValues(
  { scales, x, y }: Terms,
  shape: readonly number[],
  from: number,
  to: number,
): Float32Array<ArrayBuffer> {
  const { rows, cols } = tilingOf(shape)
  const values = new Float32Array(to - from)
  for (let row = Math.floor(from / cols); row * cols < to; row++) {
    const first = Math.max(from, row * cols)
    const end = Math.min(to, (row + 1) * cols)
    for (const [t, scale] of scales.entries()) {
      const value = scale * x[t * rows + row]
      if (value === 0) continue
      for (let at = first, col = t * cols + first - row * cols; at < end; at++, col++)
        values[at - from] += value * y[col]
    }
  }
  return values
}

function broken(why: string): TritswapError {
  return new TritswapError('format', `Cannot decode a section of terms: ${why}`)
}
