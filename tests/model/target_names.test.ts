import { describe, expect, test } from 'vitest'
import {
  SKETCH_VALUES,
  sketchOf,
  sketchPositions,
  type TritTable,
  weightsOf,
} from '../../src/format/index.ts'
import { type BaseIdentity, checkBase } from '../../src/model/base_check.ts'
import { renameTargets } from '../../src/model/target_names.ts'
import { matchName } from '../../src/onnx/index.ts'

type Tensors = Record<string, { shape: number[]; seed: number }>

const valuesOf = ({ shape, seed }: { shape: number[]; seed: number }) =>
  Float32Array.from({ length: weightsOf(shape) }, (_, i) => (seed === 0 ? 1 : Math.sin(i * 12.9898 + seed)))

function baseOf(tensors: Tensors): BaseIdentity {
  const entries = Object.entries(tensors)
  return {
    name: 'base',
    dtype: 'f32',
    shapes: new Map(entries.map(([name, { shape }]) => [name, shape])),
    sketches: new Map(
      entries.map(([name, tensor]) => [name, read(tensor, name)] as [string, readonly number[]]),
    ),
  }
}

function read(tensor: { shape: number[]; seed: number }, seed: string) {
  const values = valuesOf(tensor)
  return sketchPositions(seed, values.length).map((at) => values[at])
}

const reader = (tensors: Tensors) => async (names: readonly string[], seeds: readonly string[]) => {
  const found = new Float32Array(names.length * SKETCH_VALUES)
  for (const [i, name] of names.entries()) found.set(read(tensors[name], seeds[i]), i * SKETCH_VALUES)
  return found
}

/** An expert with a delta of every tensor. */
function expertOf(tensors: Tensors, { sketch = true } = {}): TritTable {
  const sketches = Object.entries(tensors).flatMap(([name, tensor]) => [...sketchOf(name, valuesOf(tensor))])
  return {
    kind: 'expert',
    method: 'full',
    base: sketch ? { sketch: Uint16Array.from(sketches) } : {},
    compression: {},
    sources: [],
    tensors: Object.entries(tensors).map(
      ([name, { shape }]) => ({ name, target: name, shape, role: 'delta', codec: 'dense' }) as never,
    ),
  }
}

describe('renameTargets', () => {
  const exported: Tensors = {
    'decoder.layers.0.fc1.weight': { shape: [8, 4], seed: 1 },
    'decoder.layers.1.fc1.weight': { shape: [8, 4], seed: 2 },
    'encoder.embed_tokens.weight': { shape: [16, 4], seed: 3 },
    'encoder.norm.weight': { shape: [4], seed: 0 },
    'decoder.norm.weight': { shape: [4], seed: 0 },
  }

  test('a leading module that the exporter dropped, verified by the sketch', async () => {
    const expert = expertOf({ 'model.decoder.layers.1.fc1.weight': { shape: [8, 4], seed: 2 } })
    const { renamed, base } = await renameTargets(expert, baseOf(exported), reader(exported))
    expect([...renamed]).toEqual([['model.decoder.layers.1.fc1.weight', 'decoder.layers.1.fc1.weight']])
    expect(() => checkBase(expert, 'expert', base)).not.toThrow()
  })

  test('the same name with other values is still a stranger', async () => {
    const expert = expertOf({ 'model.decoder.layers.1.fc1.weight': { shape: [8, 4], seed: 9 } })
    const { base } = await renameTargets(expert, baseOf(exported), reader(exported))
    expect(() => checkBase(expert, 'expert', base)).toThrow(/differ from these/)
  })

  test('a shared weight is found by its content', async () => {
    const expert = expertOf({ 'shared.weight': { shape: [16, 4], seed: 3 } })
    const { renamed } = await renameTargets(expert, baseOf(exported), reader(exported))
    expect(renamed.get('shared.weight')).toBe('encoder.embed_tokens.weight')
  })

  test('what a low-rank pair changes is found by its content too', async () => {
    const target = 'shared.weight'
    const whole = expertOf({ [target]: { shape: [16, 4], seed: 3 } })
    const factor = (name: string, shape: number[]) =>
      ({ name, target, shape, role: name, layout: 'embedding', codec: 'dense' }) as never
    const expert = { ...whole, tensors: [factor('loraA', [2, 16]), factor('loraB', [4, 2])] }
    const { renamed, base } = await renameTargets(expert, baseOf(exported), reader(exported))
    expect(renamed.get(target)).toBe('encoder.embed_tokens.weight')
    expect(() => checkBase(expert, 'expert', base)).not.toThrow()
  })

  test('a pair of the output layer is one of the embedding that it is tied to; a delta is not', async () => {
    const target = 'lm_head.weight'
    const whole = expertOf({ [target]: { shape: [16, 4], seed: 7 } }, { sketch: false })
    const factor = (name: string, shape: number[]) =>
      ({ name, target, shape, role: name, layout: 'linear', codec: 'dense' }) as never
    const expert = { ...whole, tensors: [factor('loraA', [2, 4]), factor('loraB', [16, 2])] }
    const sharedBy = (name: string) => (name === target ? 'encoder.embed_tokens.weight' : undefined)
    const { renamed, base } = await renameTargets(expert, baseOf(exported), reader(exported), sharedBy)
    expect([...renamed]).toEqual([[target, 'encoder.embed_tokens.weight']])
    expect(() => checkBase(expert, 'expert', base)).not.toThrow()
    expect((await renameTargets(whole, baseOf(exported), reader(exported), sharedBy)).renamed.size).toBe(0)
  })

  test('constants are like one another, and content needs a sketch: both stay unmapped', async () => {
    const constant = expertOf({ 'final.weight': { shape: [4], seed: 0 } })
    const { renamed, base } = await renameTargets(constant, baseOf(exported), reader(exported))
    expect(renamed.size).toBe(0)
    expect(() => checkBase(constant, 'expert', base)).toThrow(
      /no place there, first final\.weight; the nearest/,
    )
    const bare = expertOf({ 'shared.weight': { shape: [16, 4], seed: 3 } }, { sketch: false })
    expect((await renameTargets(bare, baseOf(exported), reader(exported))).renamed.size).toBe(0)
  })

  test('nothing is read where all names are known', async () => {
    const never = () => Promise.reject(new Error('read'))
    const { renamed } = await renameTargets(expertOf(exported), baseOf(exported), never)
    expect(renamed.size).toBe(0)
  })
})

test('the text model of a model of text and images goes by the names of its own', () => {
  const names = ['model.layers.0.q_proj.weight', 'model.vision.layers.0.q_proj.weight']
  expect(matchName('model.language_model.layers.0.q_proj.weight', names)).toBe(names[0])
  expect(matchName('language_model.model.layers.0.q_proj.weight', names)).toBe(names[0])
  expect(matchName('model.vision_model.layers.0.q_proj.weight', names)).toBeUndefined()
})

describe('many names', () => {
  test.each([
    ['the same numbers', 24, (layer: number) => `h.${layer}.up.weight`],
    ['numbers counted from elsewhere', 24, (layer: number) => `blocks.1${layer}.up.weight`],
    ['the same numbers, 120 layers deep', 120, (layer: number) => `h.${layer}.up.weight`],
  ])('deep models under other names, with %s', async (_, depth, nameOf) => {
    const deep: Tensors = {}
    const own: Tensors = {}
    for (let layer = 0; layer < depth; layer++) {
      const shape = [8, 4]
      for (const [i, part] of ['up', 'down', 'q', 'k'].entries())
        deep[`layers.${layer}.${part}_proj.weight`] = { shape, seed: 1 + layer * 4 + i }
      own[nameOf(layer)] = { shape, seed: 1 + layer * 4 }
    }
    const { renamed } = await renameTargets(expertOf(own), baseOf(deep), reader(deep))
    expect(renamed.size).toBe(depth)
    expect(renamed.get(nameOf(7))).toBe('layers.7.up_proj.weight')
  })

  test('65,536 names that no base has are refused at once', async () => {
    const deep: Tensors = {}
    for (let i = 0; i < 2000; i++) deep[`layers.${i}.fc1.weight`] = { shape: [2, 2], seed: i }
    const name = (i: number) => `x.${i % 7}.${'deep.'.repeat(10)}${i}.weight`
    const own = Object.fromEntries(
      Array.from({ length: 65_536 }, (_, i) => [name(i), { shape: [2, 2], seed: 1 }]),
    )
    const never = () => Promise.reject(new Error('read'))
    const { renamed } = await renameTargets(expertOf(own), baseOf(deep), never)
    expect(renamed.size).toBe(0)
    // The whole of it takes 100 s where every name is compared with every other.
  })
})
