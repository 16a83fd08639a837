import { describe, expect, test } from 'vitest'
import {
  bitsFromHalf,
  floatsToHalves,
  fromHalf,
  halfFromBits,
  halvesToFloats,
  toHalf,
} from '../../src/format/float16.ts'
import { randomFrom } from './samples.ts'

/** Value of a binary16 by the definition of IEEE 754: sign, significand times a power of two. */
function halfValue(half: number): number {
  const sign = half >>> 15 === 0 ? 1 : -1
  const exponent = (half >>> 10) & 31
  const fraction = half & 1023
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1024 + fraction) * 2 ** (exponent - 25)
}

/** All finite halves that are not negative, ascending: their bit patterns are in the order of their values. */
const LADDER = Float64Array.from({ length: 0x7c00 }, (_, half) => halfValue(half))

/** Nearest half by bisection of the ladder: shares no arithmetic with the code under test. */
function nearest(value: number): number {
  const sign = Object.is(value, -0) || value < 0 ? 0x8000 : 0
  const magnitude = Math.abs(value)
  if (Number.isNaN(value)) return 0x7e00
  let low = 0
  let high = 0x7c00
  while (high - low > 1) {
    const middle = (low + high) >> 1
    if (LADDER[middle] <= magnitude) low = middle
    else high = middle
  }
  const above = high === 0x7c00 ? 2 ** 16 : LADDER[high]
  const toLow = magnitude - LADDER[low]
  const toHigh = above - magnitude
  const up = toHigh < toLow || (toHigh === toLow && (low & 1) === 1)
  return sign | (up ? high : low)
}

describe('binary16', () => {
  test('every one of the 65,536 halves has its value, and rounds to itself', () => {
    const halves = Uint16Array.from({ length: 65_536 }, (_, i) => i)
    const floats = halvesToFloats(halves)
    const back = floatsToHalves(floats)
    for (let half = 0; half < 65_536; half++) {
      const value = halfValue(half)
      if (!Object.is(fromHalf(half), value) || !Object.is(floats[half], value))
        expect.fail(`value of ${half}`)
      if (back[half] !== (Number.isNaN(value) ? (half & 0x8000) | 0x7e00 : half))
        expect.fail(`bits of ${half}`)
    }
  })

  test('rounds to the nearest, ties to even: random bits of every exponent', () => {
    const random = randomFrom(5)
    const bits = new Uint32Array(1)
    const float = new Float32Array(bits.buffer)
    for (let i = 0; i < 100_000; i++) {
      bits[0] = random() * 2 ** 32
      // Half of them in the range where halves are dense.
      if (i % 2 === 0) bits[0] = (bits[0] & 0x80ffffff) | ((0x32 + (i % 23)) << 24)
      const expected = nearest(float[0])
      const found = halfFromBits(bits[0])
      if (Number.isNaN(float[0]) ? (found & 0x7fff) !== 0x7e00 : found !== expected)
        expect.fail(`${float[0]}: ${found}, not ${expected}`)
    }
  })

  test('rounds every middle between two halves to the even one, and its neighbours to theirs', () => {
    for (let half = 0; half < 0x7c00; half++) {
      const middle = (halfValue(half) + (half === 0x7bff ? 2 ** 16 : halfValue(half + 1))) / 2
      const found = [middle, middle * (1 + 2 ** -23), middle * (1 - 2 ** -23)].map(toHalf)
      const [even, above, below] = found
      if (even !== half + (half & 1) || above !== half + 1 || below !== half)
        expect.fail(`around ${middle}: ${found}, not ${[half + (half & 1), half + 1, half]}`)
    }
  })

  test('infinities, overflow and signed zeros', () => {
    expect([65504, 65519.996, 65520, 1e30, -1e30].map(toHalf)).toEqual([
      0x7bff, 0x7bff, 0x7c00, 0x7c00, 0xfc00,
    ])
    expect([0, -0, 2 ** -25, -(2 ** -26), 2 ** -24].map(toHalf)).toEqual([0, 0x8000, 0, 0x8000, 1])
    expect(bitsFromHalf(0x8000)).toBe(0x80000000)
  })
})
