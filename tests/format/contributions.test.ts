import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import {
  type AdapterTensor,
  type Contribution,
  checkFit,
  checkRank,
  contributionsOf,
  misfitOf,
  virtualTokensOf,
} from '../../src/format/contributions.ts'
import type { TritTensor } from '../../src/format/index.ts'

const TARGET = 'layer.weight'

function tensor(name: string, shape: number[], extra: Partial<AdapterTensor> = {}): TritTensor {
  return { name, shape, role: 'delta', target: TARGET, ...extra } as TritTensor
}

const pair = (layout: AdapterTensor['layout'], a: number[], b: number[]) => [
  tensor('A', a, { role: 'loraA', layout }),
  tensor('B', b, { role: 'loraB', layout, scaling: 2 }),
]

const describePair = (contributions: Contribution[]) =>
  contributions.map((contribution) => {
    if (contribution.kind !== 'lowRank') throw new Error(contribution.kind)
    const { left, right, rank, scaling, ofEmbedding } = contribution
    return { left: left.tensor.name, right: right.tensor.name, rank, scaling, ofEmbedding }
  })

describe('a LoRA pair', () => {
  test.each([
    ['linear', [3, 7], [5, 3], [5, 7], 'B', false],
    ['conv2d', [3, 7, 2, 2], [5, 3, 1, 1], [5, 7, 2, 2], 'B', false],
    ['conv1d', [3, 7], [5, 3], [7, 5], 'A', false],
    // peft: W += scaling · (B · A)ᵀ, with A [r, tokens] and B [dim, r].
    ['embedding', [3, 7], [5, 3], [7, 5], 'A', true],
  ] as const)(
    'of %s: which factor comes first, and what weight it fits',
    (layout, a, b, shape, left, ofEmbedding) => {
      const contributions = contributionsOf(pair(layout, [...a], [...b]))
      const right = left === 'A' ? 'B' : 'A'
      expect(describePair(contributions)).toEqual([{ left, right, rank: 3, scaling: 2, ofEmbedding }])
      expect(misfitOf(contributions[0], shape)).toBeUndefined()
      expect(misfitOf(contributions[0], [...shape].reverse())).toBeDefined()
    },
  )

  test('half of one is refused by the name of the half', () => {
    const [a, b] = pair('linear', [3, 7], [5, 3])
    for (const half of [a, b]) {
      expect(() => contributionsOf([half])).toThrow(
        expect.objectContaining({
          tag: 'format',
          message: `Cannot use ${half.name}: the other factor for ${TARGET} is missing`,
        }),
      )
    }
    expect(() => contributionsOf([a, b, { ...a, name: 'A2' }])).toThrow(
      expect.objectContaining({ tag: 'format', message: `Cannot use A2: ${TARGET} has a loraA already` }),
    )
  })

  test('an embedding and the output layer that shares its weight have a pair each', () => {
    const both = [...pair('embedding', [3, 7], [5, 3]), ...pair('linear', [3, 5], [7, 3])]
    expect(describePair(contributionsOf(both)).map(({ ofEmbedding }) => ofEmbedding)).toEqual([true, false])
  })

  test.each([
    [4096, [64, 64], 0, 256],
    [4096, [4096, 4096], 100, 256],
    [4096, [4096, 4096], 5000, undefined],
    [8, [2, 64], 0, undefined],
    [257, [2, 512], 514, 256],
  ])('of rank %i on %j with %i entries a factor is limited to %s', (rank, [rows, cols], kept, limit) => {
    const stored = { codec: 'ternary', kept } as Partial<AdapterTensor>
    const [a, b] = pair('linear', [rank, cols], [rows, rank])
    const [contribution] = contributionsOf(
      [
        { ...a, ...stored },
        { ...b, ...stored },
      ],
      () => true,
    )
    if (limit === undefined) return checkRank(contribution)
    expect(() => checkRank(contribution)).toThrow(
      expect.objectContaining({ tag: 'limit', fields: expect.objectContaining({ rank, limit }) }),
    )
  })

  test('factors of unequal rank fit nothing', () => {
    const [odd] = contributionsOf(pair('linear', [3, 7], [5, 4]))
    expect(() => checkFit(odd, [5, 7])).toThrow(
      expect.objectContaining({
        tag: 'base',
        message:
          'Cannot apply B: expected factors of a 5 × 7 weight, found 5 × 7 of ranks 4 and 3; the expert is for another base',
      }),
    )
  })
})

describe('an (IA)³ vector', () => {
  const ia3 = (length: number, extra: Partial<AdapterTensor>) =>
    contributionsOf([tensor('l', [length], { role: 'ia3', ...extra })], (name) => name === 'layer.bias')[0]

  test.each([
    // layout, feedforward, over, the shape of a weight with 5 outputs and 7 inputs
    ['linear', false, 'rows', [5, 7]],
    ['linear', true, 'cols', [5, 7]],
    ['conv1d', false, 'cols', [7, 5]],
    ['conv1d', true, 'rows', [7, 5]],
    ['conv2d', false, 'rows', [5, 7, 3, 3]],
    ['conv2d', true, 'cols', [5, 7, 3, 3]],
  ] as const)(
    'of %s, feedforward %s: over %s, and the bias with the outputs',
    (layout, feedforward, over, shape) => {
      const scale = ia3(feedforward ? 7 : 5, { layout, feedforward })
      const bias = { kind: 'scale', target: 'layer.bias', over: 'cols' }
      expect(scale).toMatchObject({ kind: 'scale', target: TARGET, over, ...(feedforward ? {} : { bias }) })
      expect('bias' in scale).toBe(!feedforward)
      expect(misfitOf(scale, shape)).toBeUndefined()
      expect(misfitOf(ia3(35, { layout, feedforward }), shape)?.expected).toBe(
        `a vector of ${feedforward ? 7 : 5}`,
      )
    },
  )

  test('of an embedding: over the features that are looked up, and not of what shares the weight', () => {
    expect(ia3(5, { layout: 'embedding' })).toMatchObject({ over: 'cols', ofEmbedding: true })
    expect(ia3(5, { layout: 'linear' })).toMatchObject({ ofEmbedding: false })
  })
})

describe('virtual tokens', () => {
  const virtual = (shape: number[], target = TARGET) => tensor(target, shape, { role: 'virtual', target })
  const caches = (...tokens: number[]) =>
    tokens.map((count, i) => virtual([2, count, 4], `past_key_values.${i}.key`))

  test('are rows of an embedding, or keys and values of heads', () => {
    const [rows] = contributionsOf([virtual([5, 8])])
    expect(rows).toMatchObject({ kind: 'virtual', tokens: 5, isCache: false })
    expect(misfitOf(rows, [100, 8])).toBeUndefined()
    expect(misfitOf(rows, [100, 5])).toMatchObject({ expected: `rows of 5 as ${TARGET} has` })
    const [keys] = contributionsOf(caches(5, 5))
    expect(keys).toMatchObject({ kind: 'virtual', tokens: 5, isCache: true })
    expect(misfitOf(keys, [2, 0, 4])).toBeUndefined()
    expect(misfitOf(keys, [4, 0, 2])).toMatchObject({
      expected: '4 heads of 2 as past_key_values.0.key takes',
    })
    expect(virtualTokensOf(caches(5, 5))).toBe(5)
  })

  test.each([
    ['two matrices of rows', [virtual([5, 8], 'a'), virtual([5, 8], 'b')]],
    ['rows and keys', [virtual([5, 8]), ...caches(5)]],
    ['keys of other tokens', caches(5, 6)],
    ['keys of one layer twice', [...caches(5), ...caches(5)]],
    ['keys and a change of a weight', [...caches(5), tensor('w', [5, 8])]],
    ['four dimensions', [virtual([1, 2, 5, 4])]],
  ])('are refused as %s', (_, tensors) => {
    expect(() => contributionsOf(tensors)).toThrow(expect.objectContaining({ tag: 'format' }))
  })
})

test('a delta fits its own shape alone', () => {
  const [delta] = contributionsOf([tensor(TARGET, [5, 7])])
  expect(misfitOf(delta, [5, 7])).toBeUndefined()
  expect(misfitOf(delta, [5, 7, 1])).toMatchObject({
    expected: `the shape 5 × 7 × 1 of ${TARGET}`,
    found: '5 × 7',
  })
})

test('no other file decides by the role of a tensor', () => {
  const src = join(import.meta.dirname, '../../src')
  // The table itself knows the default, and that a base has nothing else.
  const allowed = [join('format', 'contributions.ts'), join('format', 'table.ts')]
  const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'))
  const deciding = files.filter((file) =>
    /\brole [!=]== '(delta|lora[AB]|ia3|virtual)'/.test(readFileSync(join(src, file), 'utf8')),
  )
  expect(deciding.filter((file) => !allowed.includes(file))).toEqual([])
})
