import { windowAt } from '../../../src/format/bits.ts'
import { shaderConstants } from '../../../src/gpu/shader_constants.ts'

/** `Code` of shaders/shared/golomb.wgsl. */
export interface Code {
  words: number
  m: number
  low: number
  cut: number
}

const { WINDOW } = shaderConstants('golomb', ['WINDOW'])

/** One block being read: `Cursor`, `step` and `more` of shaders/shared/golomb.wgsl. */
export class Cursor {
  bit: number
  readonly end: number
  next = 0
  position = 0
  negative = 0
  readonly #arena: Uint32Array
  readonly #code: Code

  constructor(arena: Uint32Array, code: Code, bit: number, end: number) {
    this.#arena = arena.subarray(code.words)
    this.#code = code
    this.bit = bit
    this.end = end
  }

  get more(): boolean {
    return this.bit < this.end
  }

  step(): boolean {
    const { m, low, cut } = this.#code
    const window = windowAt(this.#arena, this.bit) & (2 ** WINDOW - 1)
    const zeros = window === 0 ? WINDOW : 31 - Math.clz32(window & -window)
    if (zeros + low + 3 > WINDOW) {
      this.bit += zeros
      this.next += zeros * m
      return false
    }
    const tail = window >>> (zeros + 1)
    const short = tail & ((1 << low) - 1)
    const long = short >= cut
    const remainder = long ? 2 * short + ((tail >>> low) & 1) - cut : short
    const size = long ? low + 1 : low
    this.position = this.next + zeros * m + remainder
    this.next = this.position + 1
    this.bit += zeros + size + 2
    this.negative = (tail >>> size) & 1
    return true
  }
}
