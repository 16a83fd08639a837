/**
 * The bytes of an `exact` section: where the changed weights are, which way each goes, and how far those go that move by more
 * than one step. `docs/FORMAT.md` specifies them.
 *
 * @module
 */
import { TritswapError } from '../../errors.ts'
import { BitWriter, trailingZeros, windowAt, wordsFor } from '../bits.ts'
import { bestGolomb, type GolombCode, golombCode } from '../golomb.ts'
import { MAX_STREAM_BITS } from '../limits.ts'
import { type Steps, type StepUnit, unitBits } from '../steps.ts'
import { weightsOf } from '../tiling.ts'

/** What the table says of a section beside its shape. */
export interface ExactCode {
  unit: StepUnit
  /** Weights that change. */
  kept: number
  /** Golomb parameter of the gaps between them. */
  m: number
  /** Of them, those that move by more than one step. */
  far: number
  /** Golomb parameter of the gaps between those; only where there are any, as `order`. */
  farM?: number
  /** Order of the exponential Golomb code of their steps − 2. */
  order?: number
}

/** Gaps run over the whole tensor, so their parameter may be larger than a block. */
export const MAX_EXACT_M = 2 ** 20
/** Bits of a step at most. */
export const MAX_ORDER = 31
/** Gaps that {@link bestGolomb} counts one by one; for rarer entries the geometric distribution is as good. */
const COUNTED_GAPS = 4096

/** The fewest and the most bits that a section can have. */
export function exactBits(weights: number, { kept, m, far, farM = 1, order = 0, unit }: ExactCode) {
  const { low } = golombCode(m)
  const farLow = golombCode(farM).low
  const least = kept * (low + 2) + far * (farLow + 1 + order + 1)
  const most =
    kept * (low + 3) +
    Math.floor(weights / m) +
    far * (farLow + 2 + 2 * unitBits(unit) + 1) +
    Math.floor(kept / farM)
  return { least, most }
}

/**
 * Encodes the steps of a tensor.
 * @throws {TritswapError} `limit` for a section over 2³² bits
 */
export function encodeExact(
  unit: StepUnit,
  { places, steps }: Steps,
): ExactCode & { words: Uint32Array<ArrayBuffer> } {
  const kept = steps.length
  const gaps = Uint32Array.from(places, (place, i) => place - (i === 0 ? 0 : places[i - 1] + 1))
  const m = parameterOf(gaps)
  const far: number[] = []
  for (let i = 0; i < kept; i++) if (magnitudeOf(steps[i]) > 1) far.push(i)
  const code: ExactCode = { unit, kept, m, far: far.length }
  const farGaps = Uint32Array.from(far, (at, i) => at - (i === 0 ? 0 : far[i - 1] + 1))
  const rests = Uint32Array.from(far, (at) => magnitudeOf(steps[at]) - 2)
  if (far.length > 0) {
    code.farM = parameterOf(farGaps)
    code.order = orderOf(rests)
  }
  const bits = bitsOf(gaps, golombCode(m)) + kept + farBits(farGaps, rests, code)
  if (bits > MAX_STREAM_BITS)
    throw new TritswapError(
      'limit',
      `Cannot encode a tensor of ${bits} bits: the limit is ${MAX_STREAM_BITS}`,
    )
  const writer = new BitWriter(new Uint32Array(wordsFor(bits)))
  const golomb = golombCode(m)
  for (let i = 0; i < kept; i++) {
    writeGap(writer, gaps[i], golomb)
    writer.write(steps[i] < 0 ? 1 : 0, 1)
  }
  const { farM = 1, order = 0 } = code
  const farGolomb = golombCode(farM)
  for (const [i, gap] of farGaps.entries()) {
    writeGap(writer, gap, farGolomb)
    writeRest(writer, rests[i], order)
  }
  writer.flush()
  return { ...code, words: writer.words as Uint32Array<ArrayBuffer> }
}

/** |step| as an unsigned number. */
function magnitudeOf(step: number): number {
  return Math.abs(step)
}

/** The parameter with about the fewest bits for these gaps. */
function parameterOf(gaps: Uint32Array): number {
  const sum = gaps.reduce((total, gap) => total + gap, 0)
  if (sum < (gaps.length * COUNTED_GAPS) / 16) {
    const histogram = new Float64Array(COUNTED_GAPS)
    for (const gap of gaps) if (gap < COUNTED_GAPS) histogram[gap]++
    return bestGolomb(histogram)
  }
  return Math.min(MAX_EXACT_M, Math.max(1, Math.round(Math.LN2 * (sum / gaps.length + 1))))
}

/** The order with the fewest bits. */
function orderOf(rests: Uint32Array): number {
  let best = 0
  let fewest = Number.POSITIVE_INFINITY
  for (let order = 0; order <= MAX_ORDER; order++) {
    let bits = 0
    for (const rest of rests) bits += restBits(rest, order)
    if (bits >= fewest) continue
    fewest = bits
    best = order
  }
  return best
}

function restBits(rest: number, order: number): number {
  return 2 * Math.floor(Math.log2(rest + 2 ** order)) - order + 1
}

function bitsOf(gaps: Uint32Array, { m, low, cut }: GolombCode): number {
  let bits = 0
  for (const gap of gaps) bits += Math.floor(gap / m) + 1 + low + (gap % m >= cut ? 1 : 0)
  return bits
}

function farBits(gaps: Uint32Array, rests: Uint32Array, { farM = 1, order = 0 }: ExactCode): number {
  let bits = bitsOf(gaps, golombCode(farM))
  for (const rest of rests) bits += restBits(rest, order)
  return bits
}

function writeGap(writer: BitWriter, gap: number, { m, low, cut }: GolombCode): void {
  writeUnary(writer, Math.floor(gap / m))
  const remainder = gap % m
  if (remainder < cut) {
    writer.write(remainder, low)
    return
  }
  const wide = remainder + cut
  writer.write(wide >>> 1, low)
  writer.write(wide & 1, 1)
}

/** A number at least 0: zeros as many as its bits have over the order, a one, and its bits below the highest. */
function writeRest(writer: BitWriter, rest: number, order: number): void {
  const shifted = rest + 2 ** order
  const top = Math.floor(Math.log2(shifted))
  writeUnary(writer, top - order)
  writer.write((shifted - 2 ** top) >>> 0, top)
}

function writeUnary(writer: BitWriter, zeros: number): void {
  let left = zeros
  for (; left >= 32; left -= 32) writer.write(0, 32)
  writer.write(0, left)
  writer.write(1, 1)
}

/**
 * The steps of a section. Memory for them is at most eight bytes an entry, and entries are at most four a byte.
 * @param section - as many bytes as the table says, at any alignment
 * @throws {TritswapError} `format` for bits that contradict the table
 */
export function decodeExact(
  shape: readonly number[],
  code: ExactCode,
  section: Uint8Array<ArrayBuffer>,
): Steps {
  const bytes = section.byteOffset % 4 === 0 ? section : section.slice()
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, Math.floor(bytes.byteLength / 4))
  const { kept, m, far, farM = 1, order = 0, unit } = code
  const reader = new BitReader(words)
  const weights = weightsOf(shape)
  const places = new Uint32Array(kept)
  const steps = new Int32Array(kept)
  const golomb = golombCode(m)
  for (let i = 0, place = -1; i < kept; i++) {
    place += 1 + reader.gap(golomb, weights)
    if (place >= weights) throw broken(`entry ${i} is behind the last of ${weights} weights`)
    places[i] = place
    steps[i] = reader.bits(1) === 1 ? -1 : 1
  }
  const golombFar = golombCode(farM)
  const most = 2 ** (unitBits(unit) - 1)
  for (let i = 0, at = -1; i < far; i++) {
    at += 1 + reader.gap(golombFar, kept)
    if (at >= kept) throw broken(`far entry ${i} is behind the last of ${kept}`)
    const magnitude = reader.rest(order) + 2
    // Down goes one further than up, as in two's complement.
    if (magnitude > most || (magnitude === most && steps[at] > 0))
      throw broken(`entry ${at} moves by ${magnitude} steps, over what ${unit} has`)
    steps[at] *= magnitude
  }
  if (wordsFor(reader.at) !== words.length)
    throw broken(`its codes take ${wordsFor(reader.at)} words, it has ${words.length}`)
  return { places, steps }
}

/** Takes fields from a run of bits, and never more than there are. */
class BitReader {
  at = 0
  readonly #words: Uint32Array
  readonly #end: number

  constructor(words: Uint32Array) {
    this.#words = words
    this.#end = words.length * 32
  }

  /** @param count - up to 31 */
  bits(count: number): number {
    if (this.at + count > this.#end) throw broken('its last code does not end')
    const field = count === 0 ? 0 : windowAt(this.#words, this.at) & (2 ** count - 1)
    this.at += count
    return field
  }

  /** Zeros before the next one, which is taken too. @param most - more are an error */
  #zeros(most: number): number {
    let zeros = 0
    for (;;) {
      const window = windowAt(this.#words, this.at)
      if (window !== 0) {
        const more = trailingZeros(window)
        this.at += more + 1
        zeros += more
        if (this.at > this.#end) throw broken('its last code does not end')
        if (zeros > most) throw broken(`a code has ${zeros} zeros, over ${most}`)
        return zeros
      }
      this.at += 32
      zeros += 32
      if (this.at >= this.#end) throw broken('its last code does not end')
    }
  }

  /** @param most - of a gap */
  gap({ m, low, cut }: GolombCode, most: number): number {
    const quotient = this.#zeros(most)
    const short = this.bits(low)
    return quotient * m + (short < cut ? short : 2 * short + this.bits(1) - cut)
  }

  rest(order: number): number {
    const top = order + this.#zeros(32 - order)
    const low = Math.min(top, 16)
    const first = this.bits(low)
    return 2 ** top + first + this.bits(top - low) * 2 ** low - 2 ** order
  }
}

function broken(why: string): TritswapError {
  return new TritswapError('format', `Cannot decode an exact section: ${why}`)
}
