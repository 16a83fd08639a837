/**
 * The bytes of a `terms` section: p scales in f32, then the entries of the p vectors over rows and of the p vectors over
 * columns.
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

/**
 * How entries are written. `trits`: five in a byte, 1.6 bits each whatever they are. `mask`: a bit each that says whether it
 * is 0, then the signs of the others. Of a fraction k that is not 0, that is 1 + k bits each, less than 1.6 up to k = 0.6, and
 * no more than 1 % over their entropy from k = 0.43 to 0.57.
 */
export type TermsPacking = 'trits' | 'mask'

/** Entries in a byte: 3⁵ = 243. */
const PER_BYTE = 5
const BYTE_VALUES = 3 ** PER_BYTE

/** What a table takes for a tensor that has another packing than its neighbours. */
const PACKING_BYTES = 32

/** Digits of the base 3, the first entry in the least significant one. */
const ENTRY_OF_DIGIT = [0, 1, -1] as const

/** Entries of so many terms. */
export function termsEntries(shape: readonly number[], terms: number): number {
  const { rows, cols } = tilingOf(shape)
  return terms * (rows + cols)
}

/**
 * Bytes of a section, a multiple of 4.
 * @param kept - entries that are not 0
 */
export function termsBytes(
  shape: readonly number[],
  terms: number,
  packing: TermsPacking,
  kept: number,
): number {
  const entries = termsEntries(shape, terms)
  const packed = packing === 'mask' ? (entries + kept) / 8 : entries / PER_BYTE
  return Math.ceil((4 * terms + Math.ceil(packed)) / 4) * 4
}

/** The packing of the smaller section. @param kept - entries that are not 0 */
export function smallerPacking(shape: readonly number[], terms: number, kept: number): TermsPacking {
  const saved = termsBytes(shape, terms, 'mask', kept) - termsBytes(shape, terms, 'trits', kept)
  return saved > PACKING_BYTES ? 'trits' : 'mask'
}

/** @throws {TritswapError} `input` for entries other than −1, 0 and 1 */
export function encodeTerms(
  shape: readonly number[],
  { scales, x, y }: Terms,
  packing: TermsPacking = 'trits',
): Uint8Array<ArrayBuffer> {
  const entries = new Int8Array(x.length + y.length)
  entries.set(x)
  entries.set(y, x.length)
  const wrong = entries.find((entry) => entry < -1 || entry > 1)
  if (wrong !== undefined)
    throw new TritswapError('input', `Cannot encode terms: expected entries −1, 0 or 1, found ${wrong}`)
  const section = new Uint8Array(termsBytes(shape, scales.length, packing, keptIn(entries)))
  const view = new DataView(section.buffer)
  for (const [t, scale] of scales.entries()) view.setFloat32(4 * t, scale, true)
  const packed = section.subarray(4 * scales.length)
  if (packing === 'mask') packMask(entries, packed)
  else
    for (const [at, entry] of entries.entries())
      packed[Math.floor(at / PER_BYTE)] += (entry < 0 ? 2 : entry) * 3 ** (at % PER_BYTE)
  return section
}

/** Entries that are not 0. */
export function keptIn(entries: Int8Array): number {
  return entries.reduce((kept, entry) => kept + Math.abs(entry), 0)
}

function packMask(entries: Int8Array, into: Uint8Array): void {
  let sign = entries.length
  for (const [at, entry] of entries.entries()) {
    if (entry === 0) continue
    into[at >> 3] |= 1 << (at & 7)
    if (entry < 0) into[sign >> 3] |= 1 << (sign & 7)
    sign++
  }
}

/**
 * The terms of a section; memory for them is at most eight times its bytes.
 * @param section - of {@link termsBytes}, at any alignment
 * @throws {TritswapError} `format` for a byte of 243 or more, a mask with more or fewer signs than the section has, and for
 * scales whose sum is not finite in f32
 */
export function decodeTerms(
  section: Uint8Array,
  shape: readonly number[],
  terms: number,
  packing: TermsPacking = 'trits',
): Terms {
  const { rows } = tilingOf(shape)
  const expected = termsBytes(shape, terms, packing, 0)
  if (section.byteLength < expected)
    throw broken(`${terms} terms take at least ${expected} bytes, it has ${section.byteLength}`)
  const view = new DataView(section.buffer, section.byteOffset, section.byteLength)
  const scales = Float32Array.from({ length: terms }, (_, t) => view.getFloat32(4 * t, true))
  const most = scales.reduce((sum, scale) => Math.fround(sum + Math.abs(scale)), 0)
  if (!Number.isFinite(most)) throw broken('its scales are not finite, or their sum is not')
  const entries = new Int8Array(termsEntries(shape, terms))
  const packed = section.subarray(4 * terms)
  if (packing === 'mask') {
    unpackMask(packed, entries)
    const size = termsBytes(shape, terms, packing, keptIn(entries))
    if (size !== section.byteLength)
      throw broken(`its mask and signs take ${size} bytes, it has ${section.byteLength}`)
  } else {
    unpackTrits(packed, entries)
  }
  return { scales, x: entries.subarray(0, terms * rows), y: entries.subarray(terms * rows) }
}

/** @throws {TritswapError} `format` */
function unpackTrits(packed: Uint8Array, entries: Int8Array): void {
  for (let at = 0, byte = 0; at < entries.length; byte++) {
    let value = packed[byte]
    if (value >= BYTE_VALUES)
      throw broken(`a byte of its entries is ${value}, over the ${BYTE_VALUES - 1} of five entries`)
    for (const end = Math.min(at + PER_BYTE, entries.length); at < end; at++) {
      entries[at] = ENTRY_OF_DIGIT[value % 3]
      value = Math.floor(value / 3)
    }
  }
}

/** Signs that are beyond the end read as +. */
function unpackMask(packed: Uint8Array, entries: Int8Array): void {
  let sign = entries.length
  for (let at = 0; at < entries.length; at++) {
    if (((packed[at >> 3] >> (at & 7)) & 1) === 0) continue
    entries[at] = 1 - 2 * ((packed[sign >> 3] >> (sign & 7)) & 1)
    sign++
  }
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
