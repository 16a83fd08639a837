import { describe, expect, test } from 'vitest'
import { compressTerms } from '../../src/compress/index.ts'
import { memorySource } from '../../src/source/memory.ts'
import { heavyTailed, opened, safetensors, type Values } from './checkpoints.ts'

const X: Values = { shape: [3, 2], dtype: 'I8', values: [1, 0, -1, 1, 0, -1] }
const Y: Values = { shape: [2, 4], dtype: 'I8', values: [1, 1, 0, -1, 0, 0, 1, 1] }
const D: Values = { shape: [2], values: [0.5, -2] }
const TERMS = { 'l.0.w.weight.x': X, 'l.0.w.weight.y': Y, 'l.0.w.weight.d': D }
/** Σ d·x·yᵀ by hand: rows 0.5·y₀, −0.5·y₀ − 2·y₁, 2·y₁. */
const CHANGE = [0.5, 0.5, 0, -0.5, -0.5, -0.5, -2, -1.5, 0, 0, 2, 2]

const file = (tensors: Record<string, Values>, name = 'terms') => memorySource(safetensors(tensors), name)
const weight = (shape: readonly number[]): Values => ({
  shape,
  values: heavyTailed(
    shape.reduce((a, b) => a * b),
    1,
  ),
})

async function packed(tensors: Record<string, Values>, base?: Record<string, Values>) {
  const made = await compressTerms({ terms: file(tensors), base: base && file(base, 'base') })
  return { ...made, ...(await opened(made.file)) }
}

describe('terms that an author made', () => {
  test('are packed as they are', async () => {
    const { parsed, decoded } = await packed(TERMS)
    expect(parsed.table).toMatchObject({ method: 'lora', tensors: [{ codec: 'terms', terms: 2 }] })
    expect([...decoded.get('l.0.w.weight')!]).toEqual(CHANGE)
  })

  test('meet their base by its names and shapes, and bring its sketch', async () => {
    const base = { 'model.l.0.w.weight': weight([3, 2, 1, 2]), other: weight([5]) }
    const { parsed, decoded } = await packed(TERMS, base)
    expect(parsed.table.tensors).toMatchObject([
      { name: 'model.l.0.w.weight', shape: [3, 2, 1, 2], layout: 'conv2d' },
    ])
    expect(parsed.table.base.sketch).toBeDefined()
    expect(parsed.table.base.fingerprint).toBeDefined()
    expect([...decoded.get('model.l.0.w.weight')!]).toEqual(CHANGE)
  })

  test('may name the module, and lie beside deltas', async () => {
    const delta: Values = { shape: [3], dtype: 'F16', values: [0.5, 0, -1] }
    const { parsed } = await packed(
      { 'l.0.w.x': X, 'l.0.w.y': Y, 'l.0.w.d': D, 'l.0.norm.weight': delta },
      { 'l.0.w.weight': weight([3, 4]), 'l.0.norm.weight': weight([3]) },
    )
    expect(parsed.table.tensors.map(({ name, codec }) => [name, codec])).toEqual([
      ['l.0.w.weight', 'terms'],
      ['l.0.norm.weight', 'dense'],
    ])
  })

  test('of layers in any order are named by one pattern', async () => {
    const layers = [3, 0, 12, 1].map((layer) =>
      Object.fromEntries(Object.entries(TERMS).map(([name, part]) => [name.replace('0', `${layer}`), part])),
    )
    const { parsed } = await packed(Object.assign({}, ...layers))
    expect(parsed.table.tensors.map(({ target }) => target)).toEqual(
      [0, 1, 3, 12].map((layer) => `l.${layer}.w.weight`),
    )
  })

  test('that change nothing are left out', async () => {
    const still = { 'm.x': X, 'm.y': Y, 'm.d': { shape: [2], values: [0, 0] } }
    expect((await packed({ ...TERMS, ...still })).unmoved).toEqual(['m'])
    await expect(packed(still)).rejects.toMatchObject({ tag: 'input', message: /all zero/ })
  })

  const name = 'l.0.w.weight'
  test.each<[string, Record<string, Values>, RegExp]>([
    ['no x', { [`${name}.y`]: Y, [`${name}.d`]: D }, /l\.0\.w\.weight: expected l\.0\.w\.weight\.x/],
    ['no scales', { [`${name}.x`]: X, [`${name}.y`]: Y }, /\.d in terms, found none/],
    [
      'an entry of 2',
      { ...TERMS, [`${name}.x`]: { ...X, values: [1, 0, 2, 1, 0, 1] } },
      /\.x: .*2 at index 2/,
    ],
    [
      'an entry of −128',
      { ...TERMS, [`${name}.y`]: { ...Y, values: [0, 0, 0, 0, 0, 0, 0, -128] } },
      /\.y: .*-128 at index 7/,
    ],
    ['vectors as floats', { ...TERMS, [`${name}.x`]: { ...X, dtype: 'F32' } }, /\.x: expected I8, found F32/],
    ['scales in f16', { ...TERMS, [`${name}.d`]: { ...D, dtype: 'F16' } }, /\.d: expected F32, found F16/],
    ['x of one dimension', { ...TERMS, [`${name}.x`]: { ...X, shape: [6] } }, /\.x: .*\[rows, p\].*\[6\]/],
    [
      'y of another p',
      { ...TERMS, [`${name}.y`]: { ...Y, shape: [4, 2] } },
      /\.y: expected the shape \[2, columns\]/,
    ],
    [
      'scales of another p',
      { ...TERMS, [`${name}.d`]: { shape: [1], values: [1] } },
      /\.d: expected the shape \[2\]/,
    ],
    [
      'more terms than a file may have',
      {
        'm.x': { shape: [1, 257], dtype: 'I8', values: new Array<number>(257).fill(1) },
        'm.y': { shape: [257, 1], dtype: 'I8', values: new Array<number>(257).fill(1) },
        'm.d': { shape: [257], values: new Array<number>(257).fill(1) },
      },
      /m\.x: .*up to 256/,
    ],
    [
      'a scale that is NaN',
      { ...TERMS, [`${name}.d`]: { shape: [2], values: [1, Number.NaN] } },
      /\.d: .*finite/,
    ],
    [
      'scales whose sum is over f32',
      { ...TERMS, [`${name}.d`]: { shape: [2], values: [3e38, -3e38] } },
      /\.d: .*finite/,
    ],
    [
      'another tensor of integers',
      { ...TERMS, other: { shape: [1], dtype: 'I8', values: [1] } },
      /other: .*found I8/,
    ],
    ['NaN in a delta', { ...TERMS, other: { shape: [2], values: [0, Number.NaN] } }, /other.*NaN at index 1/],
  ])('with %s are refused by name', async (_, tensors, message) => {
    await expect(packed(tensors)).rejects.toMatchObject({ tag: 'input', message })
  })

  test.each<[string, Record<string, Values>, RegExp]>([
    ['has no such weight', { v: weight([3, 4]) }, /l\.0\.w\.weight: .*found none/],
    [
      'has it in another shape',
      { 'l.0.w.weight': weight([4, 3]) },
      /\[3,4\] in base, found l\.0\.w\.weight \[4,3\]/,
    ],
  ])('are refused where the base %s', async (_, base, message) => {
    await expect(packed(TERMS, base)).rejects.toMatchObject({ tag: 'base', message })
  })
})
