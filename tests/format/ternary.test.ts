import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { isTritswapError } from '../../src/errors.ts'
import {
  decodeTernary,
  encodeTernary,
  type TernaryEntries,
  type TernarySection,
  weightsOf,
} from '../../src/format/index.ts'
import { randomEntries, randomFrom, sorted, tagThrownBy, throughCodec } from './samples.ts'

const shapes = fc.oneof(
  fc.tuple(fc.integer({ min: 1, max: 9000 })),
  fc.tuple(fc.integer({ min: 1, max: 200 }), fc.integer({ min: 1, max: 200 })),
  fc.tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 9000 })),
  fc.tuple(fc.integer({ min: 1, max: 9000 }), fc.integer({ min: 1, max: 3 })),
  fc.tuple(
    fc.integer({ min: 1, max: 20 }),
    fc.integer({ min: 1, max: 20 }),
    fc.integer({ min: 1, max: 3 }),
    fc.integer({ min: 1, max: 3 }),
  ),
)

/** `count` distinct entries anywhere in a tensor of any size, without a dense array. */
function sparseEntries(weights: number, count: number, seed: number): TernaryEntries {
  const random = randomFrom(seed)
  const chosen = new Set<number>([0, weights - 1])
  while (chosen.size < count) chosen.add(Math.floor(random() * weights))
  const indices = Uint32Array.from(chosen).sort()
  return { indices, negative: Uint8Array.from(indices, () => (random() < 0.5 ? 1 : 0)) }
}

describe('ternary codec', () => {
  test('decode inverts encode for any shape and density', () => {
    fc.assert(
      fc.property(
        shapes,
        fc.constantFrom(0, 0.001, 0.01, 0.05, 0.2, 0.5, 0.9, 1),
        fc.integer(),
        (shape, density, seed) => {
          const entries = randomEntries(weightsOf(shape), density, seed)
          expect(throughCodec(shape, entries)).toEqual(sorted(entries))
        },
      ),
      { numRuns: 300 },
    )
  })

  test.each([
    [1],
    [1, 1],
    [63, 64],
    [64, 64],
    [64, 65],
    [65, 64],
    [128, 128],
    [4096],
    [4097],
    [2, 2048],
    [2048, 2],
    [63, 66],
    [3, 5, 7, 11],
  ])('block edges: every entry of shape %i × %i', (...shape) => {
    const weights = weightsOf(shape)
    for (const density of [0, 0.5, 1]) {
      const entries = randomEntries(weights, density, 11)
      expect(throughCodec(shape, entries)).toEqual(sorted(entries))
    }
    for (const index of [0, weights - 1]) {
      const one = { indices: Uint32Array.of(index), negative: Uint8Array.of(1) }
      expect(throughCodec(shape, one)).toEqual(sorted(one))
    }
  })

  test('one scalar', () => {
    const entries = { indices: Uint32Array.of(0), negative: Uint8Array.of(1) }
    expect(throughCodec([], entries)).toEqual({ indices: [0], negative: [1] })
    expect(throughCodec([], { indices: new Uint32Array(0), negative: new Uint8Array(0) })).toEqual({
      indices: [],
      negative: [],
    })
  })

  test.each([
    { shape: [2 ** 14, 2 ** 14] },
    { shape: [2 ** 28] },
    { shape: [2 ** 30] },
    { shape: [2 ** 27, 2] },
    { shape: [3, 2 ** 26 + 1] },
    { shape: [16_411, 16_349] },
  ])('sparse entries of a huge tensor, shape $shape', ({ shape }) => {
    const entries = sparseEntries(weightsOf(shape), 5000, 23)
    expect(throughCodec(shape, entries)).toEqual(sorted(entries))
  })

  test('decodes into arrays that are long enough, and into new ones otherwise', () => {
    const shape = [100, 100]
    const entries = randomEntries(10_000, 0.1, 5)
    const section = encodeTernary(shape, entries)
    const into = { indices: new Uint32Array(10_000), negative: new Uint8Array(10_000) }
    const decoded = decodeTernary(shape, section, into)
    expect(decoded.indices.buffer).toBe(into.indices.buffer)
    expect(sorted(decoded)).toEqual(sorted(entries))
    expect(
      sorted(decodeTernary(shape, section, { indices: new Uint32Array(3), negative: new Uint8Array(3) })),
    ).toEqual(sorted(entries))
  })

  test('is near entropy on large tensors', () => {
    for (const [density, bound] of [
      [0.01, 1.045],
      [0.05, 1.017],
      [0.1, 1.014],
      [0.2, 1.012],
      [0.5, 1.006],
    ]) {
      const shape = [1024, 1024]
      const { words, kept } = encodeTernary(shape, randomEntries(2 ** 20, density, 7))
      const k = kept / 2 ** 20
      const entropy = -((1 - k) * Math.log2(1 - k) + k * Math.log2(k / 2))
      expect((words.length * 32) / 2 ** 20 / entropy).toBeLessThan(bound)
    }
  })
})

describe('what the encoder refuses', () => {
  const encode = (indices: number[], shape = [4, 4]) =>
    encodeTernary(shape, { indices: Uint32Array.from(indices), negative: new Uint8Array(indices.length) })

  test.each([[[3, 2]], [[2, 2]], [[16]]])('indices %j of 16 weights', async (indices) => {
    expect(await tagThrownBy(() => encode(indices))).toBe('input')
  })

  test('signs that are not as many as the entries', async () => {
    expect(
      await tagThrownBy(() =>
        encodeTernary([4], { indices: Uint32Array.of(1), negative: new Uint8Array(2) }),
      ),
    ).toBe('input')
  })

  test('a tensor of more than 2^30 weights', async () => {
    expect(await tagThrownBy(() => encode([0], [2 ** 30 + 1]))).toBe('limit')
  })
})

describe('what the decoder refuses', () => {
  const shape = [100, 100]
  const section = encodeTernary(shape, randomEntries(10_000, 0.1, 9))
  const decode = (change: Partial<TernarySection>) => () => decodeTernary(shape, { ...section, ...change })

  test('a section as it was written passes', () => {
    expect(decode({})).not.toThrow()
  })

  test.each<Partial<TernarySection>>([
    { kept: section.kept + 1 },
    { kept: section.kept - 1 },
    { kept: 2 ** 40 },
    { m: 0 },
    { m: 4097 },
    { lengthBits: 40 },
    { lengthMin: section.lengthMin + 1 },
    { lengthMin: 2 ** 31 },
    { words: section.words.slice(1) },
    { words: section.words.slice(0, -1) },
    { words: new Uint32Array(0) },
    { words: new Uint32Array(section.words.length) },
    { words: new Uint32Array(section.words.length).fill(2 ** 32 - 1) },
    { words: Uint32Array.from([...section.words, 0]) },
  ])('a section with %o', async (change) => {
    expect(await tagThrownBy(decode(change))).toBe('format')
  })

  test('any word changed: refused, or as many entries in range and without repetition', () => {
    const random = randomFrom(77)
    for (let i = 0; i < 3000; i++) {
      const words = section.words.slice()
      words[Math.floor(random() * words.length)] ^= 1 << Math.floor(random() * 32)
      let decoded: TernaryEntries
      try {
        decoded = decodeTernary(shape, { ...section, words })
      } catch (error) {
        expect(isTritswapError(error, 'format')).toBe(true)
        continue
      }
      expect(decoded.indices.length).toBe(section.kept)
      expect(new Set(decoded.indices).size).toBe(section.kept)
      expect(decoded.indices.every((index) => index < 10_000)).toBe(true)
    }
  })
})
