import { describe, expect, test } from 'vitest'
import { isTritswapError } from '../../src/errors.ts'
import { SKETCH_VALUES, sketchOf, sketchPositions, type TritTable } from '../../src/format/index.ts'
import { type BaseIdentity, checkBase, nearestNames } from '../../src/model/base_check.ts'

const NAME = 'model.layers.0.self_attn.q_proj.weight'
const values = (seed: number) =>
  Float32Array.from({ length: 64 * 32 }, (_, i) => Math.sin(i * 12.9898 + seed))

function table(base: TritTable['base'], overrides: Partial<TritTable['tensors'][number]> = {}): TritTable {
  const tensor = {
    name: NAME,
    target: NAME,
    shape: [64, 32],
    role: 'delta',
    codec: 'dense',
    dtype: 'f16',
    bytes: 4096,
    offset: 0,
  }
  return {
    kind: 'expert',
    method: 'full',
    base,
    compression: {},
    sources: [],
    tensors: [{ ...tensor, ...overrides } as never],
  }
}

function base(weights: Float32Array, fingerprint?: string): BaseIdentity {
  return {
    name: 'demo',
    fingerprint,
    dtype: 'f32',
    shapes: new Map([[NAME, [64, 32]]]),
    sketches: new Map([[NAME, sketchPositions(NAME, weights.length).map((at) => weights[at])]]),
  }
}

function refusal(run: () => void) {
  try {
    run()
  } catch (error) {
    if (isTritswapError(error)) return error
    throw error
  }
  throw new Error('it was not refused')
}

describe('checkBase', () => {
  test('takes an expert of the same base, with or without a fingerprint', () => {
    const sketch = sketchOf(NAME, values(1))
    expect(sketch).toHaveLength(SKETCH_VALUES)
    checkBase(table({ sketch, fingerprint: 'a'.repeat(64) }), 'x', base(values(1), 'a'.repeat(64)))
    checkBase(table({ sketch, fingerprint: 'a'.repeat(64) }), 'x', base(values(1)))
    checkBase(table({ sketch }), 'x', base(values(1), 'b'.repeat(64)))
  })

  test('refuses another fingerprint, and other weights of the same shape', () => {
    const sketch = sketchOf(NAME, values(1))
    const same = base(values(1), 'b'.repeat(64))
    const byPrint = refusal(() => checkBase(table({ sketch, fingerprint: 'a'.repeat(64) }), 'x', same))
    expect(byPrint.tag).toBe('base')
    expect(byPrint.fields).toMatchObject({ expected: 'a'.repeat(64), found: 'b'.repeat(64) })
    const bySketch = refusal(() => checkBase(table({ sketch }), 'x', base(values(2))))
    expect(bySketch.tag).toBe('base')
    expect(bySketch.fields.distance).toBeGreaterThan(0.5)
  })

  test('says what shows that it was made for this base', () => {
    const sketch = sketchOf(NAME, values(1))
    const print = 'a'.repeat(64)
    expect(checkBase(table({ sketch }), 'x', base(values(1)))).toBe('same')
    expect(checkBase(table({ fingerprint: print }), 'x', base(values(2), print))).toBe('same')
    expect(checkBase(table({ fingerprint: print }), 'x', base(values(2)))).toBe('unknown')
    expect(checkBase(table({}), 'x', base(values(2), print))).toBe('unknown')
    const nearby = values(1).map((value, i) => value + 0.05 * Math.sin(i * 7.77))
    expect(checkBase(table({ sketch }), 'x', { ...base(nearby), dtype: 'q4' })).toBe('rounded')
    const rounded = table({ sketch: sketchOf(NAME, nearby), dtype: 'q4' })
    expect(checkBase(rounded, 'x', base(values(1)))).toBe('rounded')
    expect(
      refusal(() => checkBase(table({ sketch: sketchOf(NAME, nearby) }), 'x', base(values(1)))).tag,
    ).toBe('base')
  })

  test('vectors are floats in a quantized base too, and tensors of one that are known to be are compared so', () => {
    const shape = [64 * 32]
    const vector = table({ sketch: sketchOf(NAME, values(1)) }, { shape })
    const found = (weights: Float32Array) => ({
      ...base(weights),
      dtype: 'q4' as const,
      shapes: new Map([[NAME, shape]]),
    })
    expect(checkBase(vector, 'x', found(values(1)))).toBe('same')
    const moved = values(1).map((value) => value * 1.03)
    const { fields } = refusal(() => checkBase(vector, 'x', found(moved)))
    expect(fields).toMatchObject({ tensor: NAME, differing: 1 })
    const matrix = table({ sketch: sketchOf(NAME, values(1)) })
    const q8 = {
      ...base(values(1).map((value, i) => value + 0.2 * Math.sin(i * 7.77))),
      dtype: 'q4' as const,
    }
    expect(checkBase(matrix, 'x', q8)).toBe('rounded')
    expect(refusal(() => checkBase(matrix, 'x', { ...q8, dtypes: new Map([[NAME, 'q8']]) })).tag).toBe('base')
  })

  test('takes tensors that the graphs have no use for, but not where that is all there is', () => {
    const sketch = sketchOf(NAME, values(1))
    const own = table({ sketch: Uint16Array.from([...sketch, ...sketchOf('pooler.weight', values(2))]) })
    const pooler = { ...own.tensors[0], name: 'pooler.weight', target: 'pooler.weight' }
    const expert = { ...own, tensors: [...own.tensors, pooler] }
    const isUnused = (name: string) => name.startsWith('pooler')
    checkBase(expert, 'x', { ...base(values(1)), isUnused })
    expect(refusal(() => checkBase(expert, 'x', base(values(1)))).tag).toBe('mapping')
    expect(refusal(() => checkBase(expert, 'x', { ...base(values(3)), isUnused })).tag).toBe('base')
    const only = { ...expert, tensors: [pooler], base: {} }
    expect(refusal(() => checkBase(only, 'x', { ...base(values(1)), isUnused })).tag).toBe('mapping')
  })

  test('refuses a tensor that is not there, naming the nearest', () => {
    const error = refusal(() =>
      checkBase(
        table({}, { name: 'layers.0.self_attn.q_proj.w', target: 'layers.0.self_attn.q_proj.w' }),
        'x',
        base(values(1)),
      ),
    )
    expect(error.tag).toBe('mapping')
    expect(error.fields.nearest).toEqual([NAME])
  })

  test('refuses a tensor of another shape', () => {
    expect(refusal(() => checkBase(table({}, { shape: [32, 64] }), 'x', base(values(1)))).tag).toBe('base')
  })
})

test('nearest names share path segments', () => {
  const known = ['a.0.q.weight', 'a.1.q.weight', 'a.0.k.weight', 'b.norm']
  expect(nearestNames('a.0.q.bias', known)).toEqual(['a.0.q.weight', 'a.0.k.weight', 'a.1.q.weight'])
})
