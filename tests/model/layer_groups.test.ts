import { join } from 'node:path'
import { expect, test } from 'vitest'
import { LabelledModel } from '../../src/cli/labelled_model.ts'
import { isTritswapError } from '../../src/errors.ts'
import { LayerGroups } from '../../src/model/layer_groups.ts'

const MODELS = join(import.meta.dirname, '../../results/models')

test('layers fall into groups of equally many, each stack for itself; the rest goes with the last', () => {
  const layers = new LayerGroups([
    ...Array.from({ length: 6 }, (_, i) => `model.layers.${i}.mlp.experts.9.up.weight`),
    'encoder.block.0.layer.1.wi.weight',
    'encoder.block.1.layer.0.q.weight',
    'model.embed_tokens.weight',
  ])
  expect(layers.depth).toBe(6)
  const groups = (count: number) =>
    Array.from({ length: 6 }, (_, i) => layers.of(`model.layers.${i}.mlp.up.weight`, count))
  expect(groups(1)).toEqual([0, 0, 0, 0, 0, 0])
  expect(groups(2)).toEqual([0, 0, 0, 1, 1, 1])
  expect(groups(4)).toEqual([0, 0, 1, 2, 2, 3])
  expect(groups(6)).toEqual([0, 1, 2, 3, 4, 5])
  expect([0, 1].map((i) => layers.of(`encoder.block.${i}.layer.0.q.weight`, 2))).toEqual([0, 1])
  expect(layers.of('model.embed_tokens.weight', 3)).toBe(2)
  // A checkpoint that calls the stack something shorter or longer.
  expect(layers.of('layers.1.mlp.up.weight', 6)).toBe(1)
  expect(layers.of('base.model.layers.1.mlp.up.weight', 6)).toBe(1)
})

test('groups that the base has no layers for, or that are no numbers, are refused', () => {
  const layers = new LayerGroups(['h.0.w', 'h.1.w'])
  layers.check([0, -1])
  for (const groups of [[], [1, 1, 1], [1, Number.NaN]])
    expect(() => layers.check(groups)).toThrow(expect.toSatisfy((error) => isTritswapError(error, 'input')))
})

test('an expert whose weight differs by layers changes each layer as one of that weight does', async () => {
  const model = await LabelledModel.open(join(MODELS, 'clinic'), { anyCheckpoint: true })
  try {
    const names = ['relations', 'inference']
    const experts = await Promise.all(
      names.map((name) => model.admit(join(MODELS, `clinic-tuned/${name}.trit`))),
    )
    const tensors = [...model.weights.tensors.keys()]
    const layers = new LayerGroups(tensors)
    expect(layers.depth).toBe(2)
    const factors = [
      [1, 0.5],
      [0, -0.25],
    ]
    const { changed } = await model.bind(experts, [1, 1], factors)
    const byWeight = async (group: number) =>
      (
        await model.bind(
          experts,
          factors.map((row) => row[group]),
        )
      ).changed
    const each = [await byWeight(0), await byWeight(1)]
    const seen = [0, 0]
    for (const [name, values] of changed) {
      const group = layers.of(name, 2)
      seen[group]++
      const wanted = each[group].get(name)!
      expect(
        values.findIndex((value, i) => value !== wanted[i]),
        name,
      ).toBe(-1)
    }
    expect(changed.size).toBe(each[1].size)
    expect(Math.min(...seen)).toBeGreaterThan(10)
    expect(each[0].get(tensors[0])).not.toEqual(each[1].get(tensors[0]))
    await expect(model.bind(experts, [1, 1], [[1, 1, 1], [1]])).rejects.toSatisfy((error) =>
      isTritswapError(error, 'input'),
    )
  } finally {
    await model.close()
  }
})
