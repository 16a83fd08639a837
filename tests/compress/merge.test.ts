import { describe, expect, test } from 'vitest'
import { type MergeOptions, mergeExperts } from '../../src/compress/merge.ts'
import type { OpenExpert } from '../../src/compress/open_expert.ts'
import {
  decodeValues,
  encodeTerms,
  memorySpool,
  readHead,
  readSection,
  sketchOf,
  type TritTable,
  TritWriter,
} from '../../src/format/index.ts'
import type { ModuleLayout } from '../../src/format/table.ts'
import { memorySource } from '../../src/source/memory.ts'
import {
  buildFile,
  PLAIN_TABLE,
  randomEntries,
  randomFrom,
  type SampleTensor,
  tagThrownBy,
} from '../format/samples.ts'

async function open(samples: SampleTensor[], table: Partial<TritTable> = {}): Promise<OpenExpert> {
  const source = memorySource(await buildFile(samples, { ...PLAIN_TABLE, ...table }))
  return { source, head: await readHead(source) }
}

async function merge(experts: OpenExpert[], options: MergeOptions): Promise<OpenExpert> {
  const spool = memorySpool()
  const { head } = await mergeExperts(experts, options, { spool })
  const source = memorySource(spool.join(head))
  return { source, head: await readHead(source) }
}

/** All values of a tensor. */
async function valuesOf({ source, head }: OpenExpert, name: string): Promise<Float32Array> {
  const tensor = head.table.tensors.find((tensor) => tensor.name === name)!
  const section = await readSection(source, head, tensor)
  return decodeValues(tensor, section)
}

/** An expert with one matrix of 8 weights, every one written out; all non-zero ones have one size. */
function written(values: number[], table?: Partial<TritTable>): Promise<OpenExpert> {
  const kept = values.flatMap((value, i) => (value === 0 ? [] : [i]))
  const scale = Math.abs(values[kept[0]])
  const entries = {
    indices: Uint32Array.from(kept),
    negative: Uint8Array.from(kept, (i) => Number(values[i] < 0)),
  }
  return open([{ name: 'w', shape: [2, 4], entries, scale }], table)
}

const A = [0.5, 0.5, -0.5, 0, 0, 0.5, -0.5, 0]
const B = [0.25, -0.25, -0.25, 0.25, 0, 0, -0.25, 0]
const C = [1, -1, 1, 0, 1, 0, 0, 0]
const dense = { dense: true, denseDtype: 'f32' } as const

test('weights may depend on the target', async () => {
  const expert = (values: number[]) =>
    open(
      ['layers.0.w', 'layers.1.w'].map((name) => ({
        name,
        shape: [2, 4],
        entries: {
          indices: Uint32Array.from(values.keys()),
          negative: Uint8Array.from(values, (value) => Number(value < 0)),
        },
        scale: Math.abs(values[0]),
      })),
    )
  const [one, other] = [Array<number>(8).fill(0.5), Array<number>(8).fill(-0.25)]
  const merged = await merge([await expert(one), await expert(other)], {
    method: 'task-arithmetic',
    weights: (target) => (target === 'layers.0.w' ? [1, 0] : [2, 1]),
    ...dense,
  })
  expect([...(await valuesOf(merged, 'layers.0.w'))]).toEqual(one)
  expect([...(await valuesOf(merged, 'layers.1.w'))]).toEqual(one.map((value) => 2 * value - 0.25))
  const few = merge([await expert(one)], { method: 'average', weights: () => [1, 1], ...dense })
  expect(await tagThrownBy(() => few)).toBe('input')
})

describe('merged values', () => {
  test.each<[string, MergeOptions, number[]]>([
    ['average', { method: 'average', ...dense }, A.map((a, i) => (a + B[i] + C[i]) / 3)],
    [
      'average, weighted',
      { method: 'average', weights: [2, 1, 1], ...dense },
      A.map((a, i) => (2 * a + B[i] + C[i]) / 4),
    ],
    ['task arithmetic', { method: 'task-arithmetic', ...dense }, A.map((a, i) => a + B[i] + C[i])],
    [
      'task arithmetic, one negated',
      { method: 'task-arithmetic', weights: [1, -1, 0.5], ...dense },
      A.map((a, i) => a - B[i] + 0.5 * C[i]),
    ],
    // Column by column: all +; − has more mass; + has more mass; one alone; one alone; one alone; both −; none.
    ['ties', { method: 'ties', ...dense }, [1.75 / 3, -0.625, 1, 0.25, 1, 0.5, -0.375, 0]],
    [
      'ties where the signs weigh the same',
      { method: 'ties', weights: [1, 2, 0], ...dense },
      [0.5, 0, -0.5, 0.5, 0, 0.5, -0.5, 0],
    ],
  ])('%s', async (_, options, expected) => {
    const merged = await merge(await Promise.all([written(A), written(B), written(C)]), options)
    expect(await valuesOf(merged, 'w')).toEqual(Float32Array.from(expected))
  })
})

describe('a merged expert', () => {
  const shape = [80, 70]
  const sample = (seed: number, density: number): SampleTensor => ({
    name: 'w',
    shape,
    entries: randomEntries(5600, density, seed),
    scale: 0.1 * seed,
  })
  const norm = (value: number): SampleTensor => ({
    name: 'norm',
    shape: [4],
    values: Float32Array.of(value, 0, -value, value),
  })

  test('is ternary again, at the density asked for; dense tensors stay dense', async () => {
    const experts = await Promise.all([open([sample(5, 0.1), norm(1)]), open([sample(6, 0.2), norm(3)])])
    const { head } = await merge(experts, { method: 'ties', density: 0.15 })
    expect(head.table.tensors).toMatchObject([
      { name: 'w', codec: 'ternary', kept: 840 },
      { name: 'norm', codec: 'dense' },
    ])
    expect(head.table.compression).toMatchObject({ density: 0.15 })
    expect(head.table.sources).toHaveLength(2)
  })

  test('has the density of the densest by default', async () => {
    const experts = await Promise.all([open([sample(5, 0.1)]), open([sample(6, 0.2)])])
    const { head } = await merge(experts, { method: 'average' })
    const [{ kept }] = experts[1].head.table.tensors as { kept: number }[]
    expect(head.table.tensors).toMatchObject([{ codec: 'ternary', kept }])
  })

  test('keeps the largest of the merged values', async () => {
    const experts = await Promise.all([open([sample(5, 0.1)]), open([sample(6, 0.2)])])
    const rule = { score: 'magnitude', threshold: 'tensor' } as const
    const all = await valuesOf(await merge(experts, { method: 'task-arithmetic', ...dense }), 'w')
    const some = await valuesOf(
      await merge(experts, { method: 'task-arithmetic', density: 0.05, ...rule }),
      'w',
    )
    const smallestKept = Math.min(...all.map(Math.abs).filter((_, i) => some[i] !== 0))
    const largestLost = Math.max(...all.map(Math.abs).filter((_, i) => some[i] === 0))
    expect(smallestKept).toBeGreaterThanOrEqual(largestLost)
    expect(some.every((value, i) => value === 0 || Math.sign(value) === Math.sign(all[i]))).toBe(true)
  })

  test('has the tensors of all, with names that look like globs', async () => {
    const odd = 'a[0].(b)*{c}!?'
    const values = Float32Array.of(1, 2)
    const experts = await Promise.all([
      open([sample(5, 0.1), { name: odd, shape: [2], values }]),
      open([{ name: 'late', shape: [2], values }]),
    ])
    const { head } = await merge(experts, { method: 'average', density: 0.1 })
    expect(head.table.tensors.map(({ name, codec }) => [name, codec])).toEqual([
      ['w', 'ternary'],
      [odd, 'dense'],
      ['late', 'dense'],
    ])
  })

  test('knows its base as well as the experts together do', async () => {
    const sketch = (...names: string[]) =>
      Uint16Array.from(
        names.flatMap((name) => [
          ...sketchOf(
            name,
            Float32Array.from({ length: 50 }, (_, i) => i + name.length),
          ),
        ]),
      )
    const values = Float32Array.of(1, 2)
    const experts = await Promise.all([
      open([sample(5, 0.1)], { base: { name: 'base', sketch: sketch('w') } }),
      open([{ name: 'late', shape: [2], values }, sample(6, 0.1)], {
        base: { fingerprint: 'ab'.repeat(32), sketch: sketch('late', 'w') },
      }),
    ])
    const { head } = await merge(experts, { method: 'average' })
    expect(head.table.base).toEqual({
      name: 'base',
      fingerprint: 'ab'.repeat(32),
      sketch: sketch('w', 'late'),
    })
  })
})

describe('what is not merged', () => {
  const refusal = async (experts: Promise<OpenExpert>[], options: MergeOptions = { method: 'average' }) =>
    tagThrownBy(async () => merge(await Promise.all(experts), options))

  test('experts of different bases', async () => {
    const base = (seed: number) => ({
      base: {
        sketch: sketchOf(
          'w',
          Float32Array.from({ length: 50 }, (_, i) => Math.sin(i * seed)),
        ),
      },
    })
    expect(
      await refusal([
        written(A, { base: { fingerprint: 'a'.repeat(64) } }),
        written(B, { base: { fingerprint: 'b'.repeat(64) } }),
      ]),
    ).toBe('base')
    expect(await refusal([written(A, base(1)), written(B, base(7))])).toBe('base')
    expect(await refusal([written(A, base(1)), written(B, base(1))])).toBe('none')
  })

  test('experts of different methods or shapes, and none at all; one alone is weighed', async () => {
    expect(await refusal([written(A), written(B, { method: 'lora' })])).toBe('input')
    expect(await refusal([written(A), open([{ name: 'w', shape: [8], values: Float32Array.from(B) }])])).toBe(
      'input',
    )
    expect(await refusal([])).toBe('input')
    expect(await refusal([written(A)], { method: 'task-arithmetic', weights: [0.5] })).toBe('none')
  })

  test('with weights that do not fit', async () => {
    expect(await refusal([written(A), written(B)], { method: 'average', weights: [1] })).toBe('input')
    expect(await refusal([written(A), written(B)], { method: 'average', weights: [1, -1] })).toBe('input')
    expect(await refusal([written(A), written(B)], { method: 'ties', weights: [1, Number.NaN] })).toBe(
      'input',
    )
  })

  test('experts that cancel each other', async () => {
    expect(await refusal([written(A), written(A)], { method: 'task-arithmetic', weights: [1, -1] })).toBe(
      'input',
    )
  })
})

describe('experts of terms', () => {
  const [rows, cols] = [20, 30]

  /** An expert of so many terms of `w`, and what it adds. */
  async function expertOf(count: number, seed: number, layout?: ModuleLayout) {
    const random = randomFrom(seed)
    const signs = (length: number) => Int8Array.from({ length }, () => Math.floor(3 * random()) - 1)
    const scales = Float32Array.from({ length: count }, () => 0.5 + random())
    const terms = { scales, x: signs(count * rows), y: signs(count * cols) }
    const spool = memorySpool()
    const writer = new TritWriter(spool)
    const shape = [rows, cols]
    const common = { name: 'w', target: 'w', shape, role: 'delta', layout } as const
    const tensor = { ...common, codec: 'terms', terms: count } as const
    await writer.add(tensor, encodeTerms(shape, terms))
    const source = memorySource(spool.join(await writer.finish({ ...PLAIN_TABLE, method: 'lora' })))
    const expert = { source, head: await readHead(source) }
    return { expert, values: await valuesOf(expert, 'w') }
  }

  // Of an adapter the module is known, of an author's own terms it is not.
  const each = Promise.all([expertOf(2, 1, 'linear'), expertOf(1, 2)])

  test.each<[string, MergeOptions, (a: number, b: number) => number]>([
    ['task arithmetic', { method: 'task-arithmetic' }, (a, b) => a + b],
    ['weighted', { method: 'task-arithmetic', weights: [0.5, -2] }, (a, b) => 0.5 * a - 2 * b],
    ['average', { method: 'average' }, (a, b) => (a + b) / 2],
  ])('%s are the terms of all, exactly', async (_, options, of) => {
    const [a, b] = await each
    const merged = await merge([a.expert, b.expert], options)
    expect(merged.head.table.tensors).toMatchObject([{ codec: 'terms', terms: 3 }])
    const values = await valuesOf(merged, 'w')
    for (const [i, value] of values.entries()) expect(value).toBeCloseTo(of(a.values[i], b.values[i]), 5)
  })

  test.each<[string, MergeOptions, number]>([
    ['a number', { method: 'task-arithmetic', terms: 2 }, 2],
    ['ties', { method: 'ties' }, 3],
    ['ties and a number', { method: 'ties', terms: 8 }, 8],
  ])('%s finds terms anew, with the projection 1 on the sum', async (_, options, terms) => {
    const [a, b] = await each
    const merged = await merge([a.expert, b.expert], options)
    expect(merged.head.table.tensors).toMatchObject([{ codec: 'terms', terms }])
    const whole = await valuesOf(
      await merge([a.expert, b.expert], { ...options, ...dense, terms: undefined }),
      'w',
    )
    const found = await valuesOf(merged, 'w')
    const dot = (x: Float32Array, y: Float32Array) => x.reduce((sum, value, i) => sum + value * y[i], 0)
    expect(dot(found, whole) / dot(whole, whole)).toBeCloseTo(1, 3)
    expect(dot(found, whole) / Math.sqrt(dot(found, found) * dot(whole, whole))).toBeGreaterThan(0.6)
  })

  test('fill a size, and more terms than a tensor may have are refused', async () => {
    const [a, b] = await each
    const spool = memorySpool()
    const options: MergeOptions = { method: 'task-arithmetic', bytes: 360 }
    const { head } = await mergeExperts([a.expert, b.expert], options, { spool })
    expect(spool.join(head).length).toBeLessThanOrEqual(360)
    const many = (await expertOf(200, 5)).expert
    const sum = () => merge([many, many], { method: 'task-arithmetic' })
    expect(await tagThrownBy(sum)).toBe('limit')
  })
})
