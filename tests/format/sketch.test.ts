import { describe, expect, test } from 'vitest'
import { floatsToHalves, halvesToFloats } from '../../src/format/float16.ts'
import {
  compareBase,
  compareSketch,
  fingerprintOf,
  hashSlices,
  SKETCH_VALUES,
  sha256,
  sketchOf,
  sketchPositions,
  toHex,
  type WeightDtype,
} from '../../src/format/index.ts'
import { sketchFromBase64, sketchToBase64 } from '../../src/format/sketch.ts'
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

/** Symmetric block quantization, as MatMulNBits stores it. */
function quantized(values: Float32Array, bits: number, blockSize = 32): Float32Array {
  const most = 2 ** (bits - 1) - 1
  const out = new Float32Array(values.length)
  for (let first = 0; first < values.length; first += blockSize) {
    const block = values.subarray(first, first + blockSize)
    const step = block.reduce((max, value) => Math.max(max, Math.abs(value)), 0) / most
    for (const [i, value] of block.entries()) out[first + i] = Math.round(value / step) * step
  }
  return out
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
    expect(distance).toBeLessThan(tolerance / 1.2)
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

  /** A base whose matrices all moved by a part of their spread, under normalization weights that did not. */
  const moved = (part: number, seed = 3) => {
    const noise = weightsOfBase(seed)
    return new Map(
      [...base].map(([name, values]) => [name, values.map((value, i) => value + part * noise.get(name)![i])]),
    )
  }
  const compared = (other: Base, dtype: WeightDtype, through: (values: Float32Array) => Float32Array) => {
    const norms = Array.from({ length: 12 }, (_, i) => `layers.${i}.norm.weight`)
    const ones = new Float32Array(SKETCH_VALUES).fill(1.5)
    return compareBase([
      ...norms.map((name) => ({ name, expected: sketchOf(name, ones), found: ones, dtype: 'f32' as const })),
      ...[...base].map(([name, values]) => {
        const found = through(other.get(name)!)
        const at = sketchPositions(name, values.length).map((position) => found[position])
        return { name, expected: sketchOf(name, values), found: at, dtype }
      }),
    ])
  }

  test.each([
    ['f32', 0.002, 'same', (values: Float32Array) => values],
    ['q8', 0.05, 'rounded', (values: Float32Array) => quantized(values, 8)],
    ['q4', 0.3, 'rounded', (values: Float32Array) => quantized(values, 4)],
  ] as const)(
    '%s: siblings that moved by more than the rounding are refused',
    (dtype, part, own, through) => {
      expect(compared(base, dtype, through).verdict).toBe(own)
      for (const seed of [3, 4, 5]) expect(compared(moved(part, seed), dtype, through).verdict).toBe('other')
      expect(compared(weightsOfBase(9), dtype, through).verdict).toBe('other')
    },
  )

  test('blocks of 128 weights with very heavy tails are the base, strangers are not', () => {
    const blockSize = 128
    const random = randomFrom(blockSize)
    const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())
    // Student's t with four degrees of freedom.
    const heavy = () => {
      const sum = Array.from({ length: 4 }, normal).reduce((sum, value) => sum + value * value, 0)
      return 0.04 * normal() * Math.sqrt(4 / sum)
    }
    const rounds = 10
    const refused = { own: 0, 'own, were blocks as usual': 0, strangers: 0 }
    for (let round = 0; round < rounds; round++) {
      const names = Array.from({ length: 12 }, (_, i) => `${round}.${i}.weight`)
      const weights = () => new Map(names.map((name) => [name, Float32Array.from({ length: 512 }, heavy)]))
      const [own, stranger] = [weights(), weights()]
      const isOther = (found: typeof own, known?: number) =>
        compareBase(
          names.map((name) => {
            const rounded = quantized(found.get(name)!, 4, blockSize)
            const at = sketchPositions(name, rounded.length).map((position) => rounded[position])
            return {
              name,
              expected: sketchOf(name, own.get(name)!),
              found: at,
              dtype: 'q4',
              blockSize: known,
            }
          }),
        ).verdict === 'other'
      if (isOther(own, blockSize)) refused.own++
      if (isOther(own)) refused['own, were blocks as usual']++
      if (isOther(stranger, blockSize)) refused.strangers++
    }
    expect(refused.own).toBe(0)
    expect(refused['own, were blocks as usual']).toBeGreaterThan(rounds / 4)
    expect(refused.strangers).toBe(rounds)
  })

  test('a sibling with one other tensor in twelve is refused, by its name', () => {
    const other = new Map([...base, ['layers.4.weight', weightsOfBase(7).get('layers.4.weight')!]])
    for (const dtype of ['f32', 'q8', 'q4'] as const) {
      const bits = { f32: 0, q8: 8, q4: 4 }[dtype]
      const { verdict, tensor } = compared(other, dtype, (v) => (bits === 0 ? v : quantized(v, bits)))
      expect([verdict, tensor]).toEqual(['other', 'layers.4.weight'])
    }
  })

  test('where all values are multiples of one step, that is what they may differ by', () => {
    const step = 0.04 / 16
    const whole = (values: Float32Array) => values.map((value) => Math.round(value / step) * step)
    expect(compared(base, 'q8', whole).verdict).toBe('rounded')
    expect(compared(moved(0.05), 'q8', whole).verdict).toBe('other')
  })

  test('the base of an expert may have been a rounded copy: its dtype widens what is allowed', () => {
    const [name, values] = [...base][0]
    const expected = sketchOf(name, quantized(values, 4))
    const found = sketchPositions(name, values.length).map((at) => values[at])
    expect(compareBase([{ name, expected, found, dtype: 'f32' }]).verdict).toBe('other')
    expect(compareBase([{ name, expected, found, dtype: 'f32', expectedDtype: 'q4' }]).verdict).toBe(
      'rounded',
    )
  })

  test.each([1, 2, 4])('%i values of each target tell what eight do', (stored) => {
    const many = weightsOfBase(3, 60)
    const few = (base: Base) =>
      sketchFromBase64(sketchToBase64(sketch(base), stored), base.size, stored) as Uint16Array
    const compared = (
      found: Base,
      dtype: WeightDtype,
      through: (values: Float32Array<ArrayBuffer>) => ArrayLike<number>,
    ) => {
      const [expected, values] = [few(many), atPositions(found, through)]
      return compareBase(
        [...many.keys()].map((name, i) => ({
          name,
          expected: expected.subarray(i * SKETCH_VALUES, (i + 1) * SKETCH_VALUES),
          found: values.slice(i * SKETCH_VALUES, (i + 1) * SKETCH_VALUES),
          dtype,
        })),
      ).verdict
    }
    expect(compared(many, 'f32', (values) => values)).toBe('same')
    expect(compared(many, 'f16', (values) => halvesToFloats(floatsToHalves(values)))).toBe('same')
    for (const [bits, dtype] of [
      [8, 'q8'],
      [4, 'q4'],
    ] as const)
      expect(compared(many, dtype, (values) => quantized(values, bits))).toBe('rounded')
    const stranger = weightsOfBase(4, 60)
    for (const dtype of ['f32', 'q8', 'q4'] as const)
      expect(compared(stranger, dtype, (values) => values)).toBe('other')
    // Of floats one tensor is enough.
    const sibling = new Map([...many, ['layers.7.weight', stranger.get('layers.7.weight')!]])
    expect(compared(sibling, 'f32', (values) => values)).toBe('other')
  })

  test('constants, as in untrained normalizations, say nothing', () => {
    const ones = new Float32Array(64).fill(1)
    const tensor = { name: 'norm', expected: sketchOf('norm', ones), dtype: 'f32' } as const
    expect(compareBase([{ ...tensor, found: ones.slice(0, 8) }]).verdict).toBe('alike')
    expect(compareBase([{ ...tensor, found: ones.slice(0, 8).fill(1.01) }]).verdict).toBe('other')
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
