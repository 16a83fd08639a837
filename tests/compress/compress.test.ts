import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { openFile, openFolder } from '../../src/cli/file_source.ts'
import { openCheckpoint } from '../../src/compress/checkpoint.ts'
import { compressTaskVector } from '../../src/compress/compress.ts'
import { DEFAULT_DENSITY } from '../../src/compress/defaults.ts'
import { fullTaskVector } from '../../src/compress/full.ts'
import type { RuleOptions } from '../../src/compress/rules.ts'
import { rulesFor } from '../../src/compress/rules.ts'
import { ternaryEntropy } from '../../src/compress/ternary_entropy.ts'
import { memorySpool, type TritHead } from '../../src/format/index.ts'
import { memorySource } from '../../src/source/memory.ts'
import { LONG } from '../tier.ts'
import { compressed, heavyTailed, opened, safetensors, type Values, zeros } from './checkpoints.ts'

const PUBLISHED: RuleOptions = { rule: 'published', threshold: 'tensor', density: 0.2, alpha: 2 }

/** One tensor against zeros. */
function one(shape: number[], values: ArrayLike<number>, options: RuleOptions) {
  return compressed({ w: zeros(shape) }, { w: { shape, values } }, options)
}

/** The obvious way: sort all entries, ties by index. */
function keptBySorting(
  tau: ArrayLike<number>,
  keep: number,
  score: (i: number) => number = (i) => Math.abs(tau[i]),
): number[] {
  return Array.from({ length: tau.length }, (_, i) => i)
    .filter((i) => tau[i] !== 0)
    .sort((a, b) => score(b) - score(a) || a - b)
    .slice(0, keep)
    .sort((a, b) => a - b)
}

function keptOf(decoded: Float32Array): number[] {
  return Array.from(decoded.keys()).filter((i) => decoded[i] !== 0)
}

describe('what is kept', () => {
  test('is exactly what sorting gives, with ties by index', async () => {
    const shapes = fc.oneof(
      fc.tuple(fc.integer({ min: 1, max: 3000 })),
      fc.tuple(fc.integer({ min: 1, max: 150 }), fc.integer({ min: 1, max: 150 })),
      fc.tuple(
        fc.integer({ min: 1, max: 9 }),
        fc.integer({ min: 1, max: 9 }),
        fc.integer({ min: 1, max: 3 }),
        fc.integer({ min: 1, max: 3 }),
      ),
    )
    await fc.assert(
      fc.asyncProperty(
        shapes,
        fc.double({ min: 0.001, max: 1, noNaN: true }),
        fc.integer({ min: 1, max: 40 }),
        fc.nat(),
        async (shape, density, levels, seed) => {
          const count = shape.reduce((product, size) => product * size, 1)
          // Few levels, so that ties and zeros are common.
          const tau = heavyTailed(count, seed, 1).map((value) => Math.round(value * levels) / levels)
          if (tau.every((value) => value === 0)) return
          const { decoded } = await one(shape, tau, { ...PUBLISHED, density, scale: 'mean' })
          const kept = keptBySorting(tau, Math.floor(density * count + 0.5))
          expect(keptOf(decoded.get('w')!)).toEqual(kept)
          for (const i of kept) expect(Math.sign(decoded.get('w')![i])).toBe(Math.sign(tau[i]))
        },
      ),
      { numRuns: 60 },
    )
  })

  test('ties go by flat index through slices that lie one below or one beside the other', async () => {
    for (const shape of [
      [900, 640],
      [2, 300_000],
    ]) {
      const count = shape[0] * shape[1]
      const tau = Float32Array.from({ length: count }, (_, i) => (i % 7 === 0 ? 0 : i % 5 === 0 ? -2 : 1))
      const keep = Math.floor(0.6 * count + 0.5)
      const { decoded, tensors } = await one(shape, tau, { ...PUBLISHED, density: 0.6, scale: 'mean' })
      expect(tensors[0].kept).toBe(keep)
      const expected = new Uint8Array(count)
      for (const i of keptBySorting(tau, keep)) expected[i] = 1
      const values = decoded.get('w')!
      expect(values.findIndex((value, i) => (value !== 0 ? 1 : 0) !== expected[i])).toBe(-1)
    }
  })

  test('a global threshold takes the best of all tensors, ties by tensor order', async () => {
    const parts = [heavyTailed(500, 1), heavyTailed(700, 2, 0.003), new Float32Array(300).fill(0.001)]
    const all = Float32Array.from(parts.flatMap((part) => Array.from(part)))
    const finetuned: Record<string, Values> = {}
    for (const [i, values] of parts.entries()) finetuned[`w${i}`] = { shape: [values.length], values }
    const base = Object.fromEntries(
      Object.entries(finetuned).map(([name, { shape }]) => [name, zeros(shape)]),
    )
    for (const density of [0.1, 0.4, 0.5]) {
      const { decoded, tensors } = await compressed(base, finetuned, { rule: 'published', density })
      const found = Float32Array.from([...decoded.values()].flatMap((part) => Array.from(part)))
      expect(keptOf(found)).toEqual(keptBySorting(all, Math.floor(density * all.length + 0.5)))
      expect(new Set(tensors.map(({ scale }) => scale)).size).toBe(1)
    }
  })

  test('the balanced score divides by the root of row and column rms', async () => {
    const shape = [70, 90]
    const tau = heavyTailed(6300, 3).map(
      (value, i) => value * (1 + (i % 90)) * (Math.floor(i / 90) === 5 ? 30 : 1),
    )
    const { decoded } = await one(shape, tau, { density: 0.1 })
    const rms = (pick: (i: number) => number, size: number, count: number) => {
      const sums = new Float64Array(size)
      for (let i = 0; i < tau.length; i++) sums[pick(i)] += tau[i] ** 2
      return sums.map((sum) => Math.sqrt(sum / count))
    }
    const rows = rms((i) => Math.floor(i / 90), 70, 90)
    const cols = rms((i) => i % 90, 90, 70)
    const score = (i: number) => Math.abs(tau[i]) / Math.sqrt(rows[Math.floor(i / 90)] * cols[i % 90])
    expect(keptOf(decoded.get('w')!)).toEqual(keptBySorting(tau, 630, score))
  })

  test('tau is the f32 difference of whatever dtypes', async () => {
    const base = { shape: [4], values: [0.1, 1, -3, 100], dtype: 'F16' as const }
    const { decoded } = await compressed(
      { w: base },
      { w: { shape: [4], values: [0.3, 1, -4, 100.5] } },
      { dense: ['w'], denseDtype: 'f32' },
    )
    const half = Math.fround(0.0999755859375)
    expect(Array.from(decoded.get('w')!)).toEqual([Math.fround(Math.fround(0.3) - half), 0, -1, 0.5])
  })
})

describe('scales', () => {
  const tau = [4, -3, 2, 1, 0, 0, -1, 5]
  const n = tau.length
  const mean = tau.reduce((a, b) => a + b) / n
  const std = Math.sqrt(tau.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (n - 1))
  const squares = tau.reduce((sum, x) => sum + x * x, 0)
  test.each([
    ['std', 2 * std],
    ['mean', (2 * (4 + 3 + 5)) / 3],
    ['unbiased', (2 * squares) / (4 + 3 + 5)],
  ] as const)('%s, times alpha', async (scale, expected) => {
    const { tensors } = await one([8], tau, {
      rule: 'published',
      threshold: 'tensor',
      density: 0.375,
      alpha: 2,
      scale,
    })
    expect(tensors[0].kept).toBe(3)
    expect(tensors[0].scale).toBe(Math.fround(expected))
  })

  test('deviation does not lose its digits to a large mean', async () => {
    const values = Float32Array.from({ length: 5000 }, (_, i) => 4096 + (i % 2 === 0 ? 0.25 : -0.25))
    const { tensors } = await one([5000], values, { ...PUBLISHED, alpha: 1 })
    expect(tensors[0].scale).toBeCloseTo(0.25 * Math.sqrt(5000 / 4999), 6)
  })

  test('means under a global threshold are over all tensors', async () => {
    const finetuned = { a: { shape: [2], values: [8, 1] }, b: { shape: [2], values: [-4, 2] } }
    const { tensors } = await compressed({ a: zeros([2]), b: zeros([2]) }, finetuned, {
      rule: 'published',
      density: 0.5,
      scale: 'mean',
    })
    expect(tensors.map(({ kept, scale }) => [kept, scale])).toEqual([
      [1, 6],
      [1, 6],
    ])
  })
})

describe('tensors', () => {
  test('NaN and infinities are refused with tensor and index', async () => {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const values = new Float32Array(6300)
      values[4321] = bad
      await expect(one([70, 90], values, { density: 0.1 })).rejects.toMatchObject({
        tag: 'input',
        fields: { tensor: 'w', index: 4321 },
      })
    }
  })

  test('those that did not move are left out, those that come out empty are reported', async () => {
    const base = { a: zeros([10]), b: zeros([10]), c: zeros([8]) }
    const finetuned = {
      a: { shape: [10], values: heavyTailed(10, 1) },
      b: zeros([10]),
      c: { shape: [8], values: heavyTailed(8, 2) },
    }
    const { parsed, unmoved, empty } = await compressed(base, finetuned, {
      rule: 'published',
      threshold: 'tensor',
      density: 0.06,
    })
    expect(unmoved).toEqual(['b'])
    expect(empty).toEqual(['c'])
    expect(parsed.table.tensors.map(({ name }) => name)).toEqual(['a', 'c'])
    await expect(compressed({ a: zeros([4]) }, { a: zeros([4]) }, {})).rejects.toMatchObject({ tag: 'input' })
  })

  test('globs choose what is left out, dense, or under a rule of its own', async () => {
    const names = ['l.0.q', 'l.0.norm', 'l.1.q', 'l.1.norm', 'head']
    const base = Object.fromEntries(names.map((name) => [name, zeros([10, 10])]))
    const finetuned = Object.fromEntries(
      names.map((name, i) => [name, { shape: [10, 10], values: heavyTailed(100, i + 1) }]),
    )
    const { parsed, tensors, skipped, decoded } = await compressed(base, finetuned, {
      ...PUBLISHED,
      exclude: ['head'],
      dense: ['*norm'],
      denseDtype: 'f32',
      overrides: [{ glob: 'l.1.*', density: 0.5, scale: 'mean', alpha: 1 }],
    })
    expect(skipped).toEqual(['head'])
    expect(parsed.table.tensors.map(({ codec }) => codec)).toEqual(['ternary', 'dense', 'ternary', 'dense'])
    expect(tensors.map(({ kept }) => kept)).toEqual([20, 100, 50, 100])
    expect(decoded.get('l.0.norm')).toEqual(finetuned['l.0.norm'].values)
    await expect(compressed(base, finetuned, { include: ['nothing*'] })).rejects.toMatchObject({
      tag: 'input',
      message: /matches no tensor/,
    })
  })

  test('a fine-tuning of vectors alone stays dense unless the published rule is asked for', async () => {
    const base = { bias: zeros([50]), w: zeros([5, 5]) }
    const finetuned = { bias: { shape: [50], values: heavyTailed(50, 1) }, w: zeros([5, 5]) }
    expect((await compressed(base, finetuned, { density: 0.1 })).parsed.table.tensors[0].codec).toBe('dense')
    expect((await compressed(base, finetuned, PUBLISHED)).parsed.table.tensors[0].codec).toBe('ternary')
  })

  test('what has no counterpart in the base is refused unless left out', async () => {
    const base = { w: zeros([4]) }
    const finetuned = { w: { shape: [4], values: [1, 2, 3, 4] }, extra: zeros([2]) }
    await expect(compressed(base, finetuned, {})).rejects.toMatchObject({ tag: 'input', message: /extra/ })
    expect((await compressed(base, finetuned, { exclude: ['extra'] })).tensors).toHaveLength(1)
    const resized = { w: { shape: [5], values: [1, 2, 3, 4, 5] } }
    await expect(compressed(base, resized, {})).rejects.toMatchObject({
      tag: 'input',
      message: /shape \[4\].*\[5\]/,
    })
  })

  test('a tied output matrix counts once', async () => {
    const old = { shape: [6, 3], values: heavyTailed(18, 1) }
    const now = { shape: [6, 3], values: heavyTailed(18, 2) }
    const tied = await compressed(
      { 'lm_head.weight': old, 'model.embed_tokens.weight': old },
      { 'lm_head.weight': now, 'model.embed_tokens.weight': now },
      PUBLISHED,
    )
    expect(tied.tensors.map(({ name }) => name)).toEqual(['model.embed_tokens.weight'])
    const untied = await compressed(
      { 'lm_head.weight': old, 'model.embed_tokens.weight': old },
      { 'lm_head.weight': { shape: [6, 3], values: heavyTailed(18, 3) }, 'model.embed_tokens.weight': now },
      PUBLISHED,
    )
    expect(untied.tensors).toHaveLength(2)
  })
})

describe('size', () => {
  const ratio = ({ table, headBytes, payloadBytes }: TritHead) => {
    let least = 0
    for (const tensor of table.tensors) {
      const weights = tensor.shape.reduce((product, size) => product * size, 1)
      least +=
        tensor.codec === 'ternary' ? (weights * ternaryEntropy(tensor.kept / weights)) / 8 : tensor.bytes
    }
    return (headBytes + payloadBytes) / least
  }

  test.each([
    [0.01, 1.08],
    [0.05, 1.03],
    [0.1, 1.03],
    [0.2, 1.03],
    [0.5, 1.03],
  ])('a million weights at density %f are within %f of entropy', async (density, bound) => {
    const shape = [1024, 1024]
    const { parsed } = await one(shape, heavyTailed(2 ** 20, 11), { density })
    expect(ratio(parsed)).toBeLessThanOrEqual(bound)
  })

  const EXPERTS = ['austen', 'bard', 'css', 'fairy', 'holmes', 'python', 'scripture']
  test.each(LONG ? EXPERTS : EXPERTS.slice(2, 4))(
    '%s at five percent is within 1.05 of entropy',
    async (expert) => {
      const base = await openCheckpoint(openFolder('../shared/demo-model/base'))
      const finetuned = await openCheckpoint(
        await openFile(`../shared/demo-model/finetuned/${expert}/model.safetensors`),
      )
      const spool = memorySpool()
      const { head } = await compressTaskVector(
        await fullTaskVector(base, finetuned),
        { density: 0.05 },
        { spool },
      )
      const { parsed } = await opened(spool.join(head))
      expect(ratio(parsed)).toBeLessThanOrEqual(1.05)
      expect(parsed.table.tensors).toHaveLength(54)
      expect(parsed.table.base.fingerprint).toMatch(/^[0-9a-f]{64}$/)
      expect(parsed.table.base.sketch).toHaveLength(54 * 8)
    },
  )
})

test('an aborted compression rejects', async () => {
  const file = memorySource(safetensors({ w: { shape: [100], values: heavyTailed(100, 1) } }))
  const base = await openCheckpoint(memorySource(safetensors({ w: zeros([100]) })))
  const task = await fullTaskVector(base, await openCheckpoint(file))
  const signal = AbortSignal.abort()
  await expect(compressTaskVector(task, {}, { spool: memorySpool(), signal })).rejects.toMatchObject({
    name: 'AbortError',
  })
})

test.each([
  ['full', 0.05],
  ['lora', 0.2],
  ['ia3', 0.5],
] as const)('the density of %s by default is %f', (method, density) => {
  const [rule] = rulesFor([{ name: 'w', target: 'w', role: 'delta', shape: [2, 2] }], {}, method)
  expect(rule).toMatchObject({ density })
  expect(DEFAULT_DENSITY[method]).toBe(density)
})
