/**
 * Bits in little-endian 32-bit words, least significant bit first: the order in which WGSL can read a code
 * with `firstTrailingBit` and a shift.
 *
 * @module
 */

/** Words that `bits` bits take. */
export function wordsFor(bits: number): number {
  return Math.ceil(bits / 32)
}

/** Appends bit fields to words that the caller has sized. */
export class BitWriter {
  readonly words: Uint32Array
  #word = 0
  #pending = 0
  #used = 0

  constructor(words: Uint32Array) {
    this.words = words
  }

  /** Appends the low `count ≤ 32` bits of `value`; the bits above them must be 0. */
  write(value: number, count: number): void {
    if (count === 0) return
    this.#pending |= value << this.#used
    const used = this.#used + count
    if (used < 32) {
      this.#used = used
      return
    }
    this.words[this.#word++] = this.#pending
    // A shift by 32 is a shift by 0 in JavaScript, hence the two steps.
    this.#pending = this.#used === 0 ? 0 : value >>> (32 - this.#used)
    this.#used = used - 32
  }

  /** Writes the last, partly filled word. */
  flush(): void {
    if (this.#used > 0) this.words[this.#word] = this.#pending
  }
}

/** 32 bits from bit `position` < 2³² on; words past the end read as 0. */
export function windowAt(words: Uint32Array, position: number): number {
  const word = position >>> 5
  const shift = position & 31
  const low = word < words.length ? words[word] : 0
  const high = word + 1 < words.length ? words[word + 1] : 0
  return ((low >>> shift) | ((high << 1) << (31 - shift))) >>> 0
}

/** Zero bits below the lowest one of `word`, which is not 0. */
export function trailingZeros(word: number): number {
  return 31 - Math.clz32(word & -word)
}

/** Field `index` of fields that are `bits ≤ 30` wide. */
export function fieldAt(words: Uint32Array, index: number, bits: number): number {
  return bits === 0 ? 0 : windowAt(words, index * bits) & ((1 << bits) - 1)
}
