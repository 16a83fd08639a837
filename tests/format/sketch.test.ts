import { describe, expect, test } from 'vitest'
import { floatsToHalves, halvesToFloats } from '../../src/format/float16.ts'
import {
  compareSketch,
  fingerprintOf,
  hashSlices,
  SKETCH_VALUES,
  sha256,
  sketchOf,
  sketchPositions,
  toHex,
} from '../../src/format/index.ts'
import { randomFrom } from './samples.ts'

/** Normally distributed weights of `tensors` tensors with 4096 values each. */
function weightsOfBase(seed: number, tensors = 12): Map<string, Float32Array<ArrayBuffer>> {
  const random = randomFrom(seed)
  const normal = () => 0.04 * Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())
  return new Map(
    Array.from({ length: tensors }, (_, i) => [
      `layers.${i}.weight`,
      Float32Array.from({ length: 4096 }, normal),
    ]),
  )
}

type Base = ReturnType<typeof weightsOfBase>
const sketch = (base: Base) =>
  Uint16Array.from([...base].flatMap(([name, values]) => [...sketchOf(name, values)]))
const atPositions = (base: Base, through: (values: Float32Array<ArrayBuffer>) => ArrayLike<number>) =>
  [...base].flatMap(([name, values]) => {
    const seen = through(values)
    return sketchPositions(name, values.length).map((position) => seen[position])
  })

/** bfloat16 by cutting the lower half of every word, which errs twice as far as rounding. */
function toBfloat16(values: Float32Array<ArrayBuffer>): Float32Array {
  return new Float32Array(
    Uint32Array.from(new Uint32Array(values.buffer), (bits) => bits & 0xffff0000).buffer,
  )
}

/** Symmetric block quantization, 32 weights to a scale, as MatMulNBits stores it. */
function quantized(values: Float32Array, bits: number): Float32Array {
  const most = 2 ** (bits - 1) - 1
  return values.map((value, i) => {
    const block = values.subarray(i - (i % 32), i - (i % 32) + 32)
    const step = Math.max(...block.map(Math.abs)) / most
    return Math.round(value / step) * step
  })
}

const base = weightsOfBase(1)

describe('sketch', () => {
  test.each([
    { stored: 'f32', dtype: 'f32', through: (values: Float32Array<ArrayBuffer>) => values },
    {
      stored: 'f16',
      dtype: 'f16',
      through: (values: Float32Array<ArrayBuffer>) => halvesToFloats(floatsToHalves(values)),
    },
    { stored: 'bf16', dtype: 'f32', through: toBfloat16 },
    { stored: 'q8', dtype: 'q8', through: (values: Float32Array<ArrayBuffer>) => quantized(values, 8) },
    { stored: 'q4', dtype: 'q4', through: (values: Float32Array<ArrayBuffer>) => quantized(values, 4) },
  ] as const)('knows its base stored as $stored', ({ dtype, through }) => {
    const { same, distance, tolerance } = compareSketch(sketch(base), atPositions(base, through), dtype)
    expect(same).toBe(true)
    expect(distance).toBeLessThan(tolerance / 1.5)
  })

  test.each(['f32', 'f16', 'q8', 'q4'] as const)('refuses a stranger of the same shape as %s', (dtype) => {
    const { same, distance } = compareSketch(
      sketch(base),
      atPositions(weightsOfBase(2), (values) => values),
      dtype,
    )
    expect(same).toBe(false)
    expect(distance).toBeGreaterThan(1)
  })

  test('refuses weights that are missing or not numbers', () => {
    expect(compareSketch(sketch(base), [], 'q4').same).toBe(false)
    expect(
      compareSketch(
        sketch(base),
        atPositions(base, (values) => values.map(() => Number.NaN)),
        'q4',
      ).same,
    ).toBe(false)
  })

  test('positions are in range, and follow from name and size alone', () => {
    for (const weights of [1, 2, 7, 4096, 2 ** 30]) {
      const positions = sketchPositions('model.layers.0.weight', weights)
      expect(positions).toHaveLength(SKETCH_VALUES)
      expect(
        positions.every((position) => Number.isInteger(position) && position >= 0 && position < weights),
      ).toBe(true)
    }
    expect(sketchPositions('model.layers.0.weight', 4096)).toEqual(
      sketchPositions('model.layers.0.weight', 4096),
    )
    expect(sketchPositions('model.layers.1.weight', 4096)).not.toEqual(
      sketchPositions('model.layers.0.weight', 4096),
    )
  })
})

describe('fingerprint', () => {
  const hash = new Uint8Array(32).fill(0xab)
  const entries = [
    { name: 'b', dtype: 'F32', shape: [2, 3], hash },
    { name: 'a', dtype: 'BF16', shape: [], hash },
  ]

  test('is the SHA-256 of the lines that FORMAT.md gives', async () => {
    const text = `a\tBF16\t\t${'ab'.repeat(32)}\nb\tF32\t2,3\t${'ab'.repeat(32)}\n`
    expect(await fingerprintOf(entries)).toBe(toHex(await sha256(new TextEncoder().encode(text))))
  })

  test('does not depend on order, and does on everything else', async () => {
    const own = await fingerprintOf(entries)
    expect(await fingerprintOf([...entries].reverse())).toBe(own)
    const [first, second] = entries
    for (const changed of [
      { ...first, name: 'c' },
      { ...first, dtype: 'F16' },
      { ...first, shape: [3, 2] },
      { ...first, hash: new Uint8Array(32) },
    ]) {
      expect(await fingerprintOf([changed, second])).not.toBe(own)
    }
  })

  test('hashes of slices are the hash of their hashes', async () => {
    const slices = [Uint8Array.of(1, 2), Uint8Array.of(3)]
    const inner = Uint8Array.from((await Promise.all(slices.map(sha256))).flatMap((part) => [...part]))
    const stream = (async function* () {
      yield* slices
    })()
    expect(await hashSlices(stream)).toEqual(await sha256(inner))
  })
})
