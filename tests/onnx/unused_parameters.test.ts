import { describe, expect, test } from 'vitest'
import { hoistModel } from '../../src/onnx/index.ts'
import { unusedIn } from '../../src/onnx/resolve/unused_parameters.ts'
import { floats, modelOf } from './models.ts'

const wave = (i: number) => Math.sin(i + 1)
const SCOPES = 'pkg.torch.onnx.name_scopes'

/** Two linear modules, by the names of their nodes or by what the nodes say of their scopes. */
function linears(nodes: readonly { name: string; scopes?: string }[]) {
  return modelOf({
    input: [{ name: 'x' }],
    initializer: nodes.map((_, i) => floats(`val_${i}`, [4, 4], (at) => wave(at + 16 * i))),
    node: nodes.map(({ name, scopes }, i) => ({
      opType: 'MatMul',
      name,
      input: [i === 0 ? 'x' : `h${i}`, `val_${i}`],
      output: [i === nodes.length - 1 ? 'y' : `h${i + 1}`],
      metadataProps: scopes === undefined ? [] : [{ key: SCOPES, value: scopes }],
    })),
  })
}

describe('unusedIn', () => {
  const features = linears([
    { name: '/bert/encoder/layer.0/query/MatMul' },
    { name: '/bert/encoder/layer.0/output/dense/MatMul' },
  ])

  test('modules that do not run, and parameters that only training reads', async () => {
    const [hoisted] = (await hoistModel([features])).graphs
    for (const { graph } of [features, hoisted]) {
      const isUnused = unusedIn([graph])
      expect(isUnused('bert.pooler.dense.weight')).toBe(true)
      expect(isUnused('classifier.bias')).toBe(true)
      expect(isUnused('bert.embeddings.mask_token')).toBe(true)
      // What has a place beside others of its module, or could have.
      expect(isUnused('bert.encoder.layer.0.key.weight')).toBe(false)
      expect(isUnused('bert.encoder.layer.0.output.norm.weight')).toBe(false)
      expect(isUnused('encoder.layer.1.query.weight')).toBe(false)
      expect(isUnused('logit_bias')).toBe(false)
    }
  })

  test('what an exporter ran in advance is not unused: it may be in a constant that its module reads', () => {
    const { graph } = modelOf({
      input: [{ name: 'x' }],
      initializer: [floats('onnx::Add_1', [1, 2, 4, 4], wave)],
      node: [{ opType: 'Add', name: '/net/attention/Add', input: ['x', 'onnx::Add_1'], output: ['y'] }],
    })
    const isUnused = unusedIn([graph])
    expect(isUnused('net.attention.bias_mlp.0.weight')).toBe(false)
    expect(isUnused('net.pooler.dense.weight')).toBe(true)
  })

  test('parts of a weight that its module computes are parts of the module', async () => {
    const [{ graph }] = (await hoistModel([linears([{ name: '/net/conv/MatMul' }])])).graphs
    expect(unusedIn([graph])('net.conv.parametrizations.weight.original0')).toBe(false)
  })

  test('nothing is certain where a node that reads a weight says nothing of its module', () => {
    const fused = linears([{ name: '/bert/encoder/layer.0/query/MatMul' }, { name: 'Attention_0' }])
    expect(unusedIn([fused.graph])('bert.pooler.dense.weight')).toBe(false)
    expect(unusedIn([])('bert.pooler.dense.weight')).toBe(false)
  })
})

test('nodes that have numbers for names say in which scopes they lie', async () => {
  const { tensors } = await hoistModel([
    linears([
      { name: 'node_MatMul_50', scopes: "['', 'bert', 'bert.query', 'linear']" },
      { name: 'node_MatMul_51', scopes: "['', 'matmul']" },
    ]),
  ])
  expect([...tensors.keys()]).toEqual(['bert.query.weight', 'val_1'])
})

test.each([
  ['onnx::Conv_1', 'onnx::Conv_2'],
  ['conv.weight', 'conv.weight_bias'],
])('a convolution with a batch norm in it is no parameter of the checkpoint: %s', async (weight, bias) => {
  const file = modelOf({
    input: [{ name: 'x' }],
    initializer: [
      floats(weight, [16, 3, 2, 2], wave),
      floats(bias, [16], wave),
      floats('head.weight', [4, 4], (i) => Math.cos(i * i)),
    ],
    node: [
      { opType: 'Conv', name: '/conv/Conv', input: ['x', weight, bias], output: ['h'] },
      { opType: 'Gemm', name: '/head/Gemm', input: ['h', 'head.weight'], output: ['y'] },
    ],
  })
  const { tensors, unmatched } = await hoistModel([file])
  expect([...tensors.keys()]).toEqual(['head.weight'])
  expect(unmatched).toEqual([weight, bias])
  const checkpoint = {
    name: 'checkpoint',
    tensors: new Map([['head.weight', { shape: [4, 4] }]]),
    read: async (_: string, first: number, count: number) =>
      Float32Array.from({ length: count }, (_, i) => Math.cos((first + i) ** 2)),
  }
  expect((await hoistModel([file], { checkpoint })).unmatched).toEqual([weight, bias])
})
