import { expect, test } from 'vitest'
import type { TritTable, TritTensor } from '../../src/format/index.ts'
import { bindExpert } from '../../src/model/expert_bindings.ts'
import { SiteIndex } from '../../src/model/site_index.ts'
import { hoistModel } from '../../src/onnx/index.ts'
import { floats, modelOf } from '../onnx/models.ts'

const WEIGHT = 'model.embed_tokens.weight'

/** A model whose output layer multiplies with its embedding, which lies turned in an initializer of its own. */
async function tied() {
  const [rows, cols] = [12, 4]
  const transposed = (i: number) => Math.sin((i % rows) * cols + Math.floor(i / rows) + 1)
  const { graphs, tensors } = await hoistModel([
    modelOf({
      input: [{ name: 'ids' }],
      initializer: [
        floats(WEIGHT, [rows, cols], (i) => Math.sin(i + 1)),
        floats('onnx::MatMul_9', [cols, rows], transposed),
      ],
      node: [
        { opType: 'Gather', name: '/model/embed_tokens/Gather', input: [WEIGHT, 'ids'], output: ['h'] },
        { opType: 'MatMul', name: '/lm_head/MatMul', input: ['h', 'onnx::MatMul_9'], output: ['y'] },
      ],
    }),
  ])
  expect([...tensors.keys()]).toEqual([WEIGHT])
  const table = new Map([
    [WEIGHT, { name: WEIGHT, target: WEIGHT, shape: [rows, cols], codec: 'dense' } as unknown as TritTensor],
  ])
  const [{ graph, weights }] = graphs
  const inputs = weights.map(({ input }) => input)
  const placements = inputs.map(({ name }) => ({ input: name, dtype: 'float32' as const }))
  return {
    sites: new SiteIndex([['model', { graph, inputs, tensors: table }]]),
    weights: {
      floatPlacementsOf: (target: string) => (target === WEIGHT ? placements : []),
      isQuantized: () => false,
    },
  }
}

const pair = (layout: 'linear' | 'embedding', a: number[], b: number[]) =>
  ({
    method: 'lora',
    tensors: [
      { name: 'a', target: WEIGHT, shape: a, role: 'loraA', layout, codec: 'dense' },
      { name: 'b', target: WEIGHT, shape: b, role: 'loraB', layout, codec: 'dense', scaling: 2 },
    ],
  }) as unknown as TritTable

test.each([
  ['embedding', [2, 12], [4, 2]],
  ['linear', [2, 4], [12, 2]],
] as const)('a low-rank pair of an %s leaves what is tied to it alone', async (layout, a, b) => {
  const { sites, weights } = await tied()
  for (const choice of ['merge', 'input', 'auto'] as const) {
    const { merged, bypass } = bindExpert(pair(layout, [...a], [...b]), choice, weights, sites)
    expect([...merged], choice).toEqual([])
    expect(bypass.map(({ kind, site }) => [kind, site.kind])).toEqual([['lowRank', layout]])
  }
})

test('a change of the weight itself changes both', async () => {
  const { sites, weights } = await tied()
  const delta = { name: WEIGHT, target: WEIGHT, shape: [12, 4], role: 'delta', codec: 'dense' }
  const expert = { method: 'full', tensors: [delta] } as unknown as TritTable
  const kinds = (choice: 'merge' | 'input') => {
    const { merged, bypass } = bindExpert(expert, choice, weights, sites)
    return [merged.size, bypass.map(({ site }) => site.kind).sort()]
  }
  expect(kinds('merge')).toEqual([1, []])
  expect(kinds('input')).toEqual([0, ['embedding', 'linear']])
})

test.each(['embedding', 'linear'] as const)(
  'a change of the %s alone leaves the other at the base',
  async (layout) => {
    const { sites, weights } = await tied()
    const delta = { name: WEIGHT, target: WEIGHT, shape: [12, 4], role: 'delta', codec: 'dense', layout }
    const expert = { method: 'full', tensors: [delta] } as unknown as TritTable
    const { merged, bypass } = bindExpert(expert, 'merge', weights, sites)
    expect([merged.size, bypass.map(({ site }) => site.kind)]).toEqual([0, [layout]])
  },
)

test('a delta of a module that the graph does not tell apart is refused', async () => {
  const { sites, weights } = await tied()
  const delta = { name: 'w', target: 'w', shape: [12, 4], role: 'delta', codec: 'dense', layout: 'embedding' }
  const expert = { method: 'lora', tensors: [delta] } as unknown as TritTable
  expect(() => bindExpert(expert, 'merge', weights, sites)).toThrow(/does not tell apart/)
})

test('(IA)³ of the output layer leaves the embedding at the base', async () => {
  const { sites, weights } = await tied()
  const vector = { name: 'l', target: WEIGHT, shape: [12, 1], role: 'ia3', codec: 'dense', layout: 'linear' }
  const expert = { method: 'ia3', tensors: [vector] } as unknown as TritTable
  const { merged, bypass } = bindExpert(expert, 'merge', weights, sites)
  expect(merged.size).toBe(0)
  expect(bypass.map(({ kind, site }) => [kind, site.kind])).toEqual([['outputScale', 'linear']])
})

test('the output layer is known by its own name too', async () => {
  const { sites } = await tied()
  expect(sites.sharedBy('lm_head.weight')).toBe(WEIGHT)
  expect(sites.sharedBy('score.weight')).toBeUndefined()
})

test('pairs of both modules stay apart', async () => {
  const { sites, weights } = await tied()
  const both = {
    method: 'lora',
    tensors: [...pair('embedding', [2, 12], [4, 2]).tensors, ...pair('linear', [2, 4], [12, 2]).tensors],
  } as unknown as TritTable
  const { bypass } = bindExpert(both, 'merge', weights, sites)
  expect(bypass.map(({ site }) => site.kind)).toEqual(['embedding', 'linear'])
})
