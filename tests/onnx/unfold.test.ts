import { describe, expect, test } from 'vitest'
import { type Checkpoint, type HoistedGraphFile, hoistModel, readElements } from '../../src/onnx/index.ts'
import { parseModel } from '../../src/onnx/proto/model.ts'
import { floatAttribute, intAttribute, newInt } from '../../src/onnx/proto/nodes.ts'
import type { GraphProto } from '../../src/onnx/proto/onnx_pb.ts'
import { floats, modelOf, noFiles } from './models.ts'

/** What `folded.test.ts` has no model of: other layouts, weights before any training, and what must stay as it is. */

interface Tensor {
  shape: number[]
  values: Float32Array
}

const wave = (by: number) => (i: number) => Math.sin((i + 1) * by)

function tensor(shape: number[], value: (i: number) => number): Tensor {
  const length = shape.reduce((product, size) => product * size, 1)
  return { shape, values: Float32Array.from({ length }, (_, i) => value(i)) }
}

function checkpointOf(tensors: Record<string, Tensor>): Checkpoint {
  return {
    name: 'checkpoint',
    tensors: new Map(Object.entries(tensors)),
    read: async (name, first, count) => tensors[name].values.slice(first, first + count),
  }
}

function graphOf({ graph }: HoistedGraphFile): GraphProto {
  return parseModel(graph.bytes, 'model').graph as GraphProto
}

function norm(module: string, channels: number, seed = 0.7): Record<string, Tensor> {
  return {
    [`${module}.weight`]: tensor([channels], (i) => 1 + 0.5 * wave(seed)(i)),
    [`${module}.bias`]: tensor([channels], wave(seed + 1)),
    [`${module}.running_mean`]: tensor([channels], wave(seed + 2)),
    [`${module}.running_var`]: tensor([channels], (i) => 1 + 0.5 * wave(seed + 3)(i)),
  }
}

/** The weight and bias of a product that took in a norm, by the output that each value belongs to. */
function foldedInto(tensors: Record<string, Tensor>, module: string, epsilon: number) {
  const of = (name: string) => tensors[`${module}.${name}`].values
  const scale = (o: number) => of('weight')[o] / Math.sqrt(of('running_var')[o] + epsilon)
  return { scale, bias: (o: number) => of('bias')[o] - scale(o) * of('running_mean')[o] }
}

describe('a batch norm in the product before it', () => {
  const products: [string, string, number[], number[], (i: number) => number, (i: number) => number][] = [
    // What is folded, its dims in the graph and in the checkpoint, the output of an element, and where it is in the graph.
    [
      'Gemm',
      'a matrix that was transposed',
      [3, 6],
      [6, 3],
      (i) => Math.floor(i / 3),
      (i) => (i % 3) * 6 + Math.floor(i / 3),
    ],
    [
      'ConvTranspose',
      'two groups',
      [4, 3, 2, 1],
      [4, 3, 2, 1],
      (i) => Math.floor(i / 12) * 3 + (Math.floor(i / 2) % 3),
      (i) => i,
    ],
    ['Conv', 'a kernel for each channel', [6, 1, 3], [6, 1, 3], (i) => Math.floor(i / 3), (i) => i],
  ]

  function graphWith([opType, , dims, shape, outputOf, at]: (typeof products)[number], change = 1) {
    const tensors: Record<string, Tensor> = { 'net.0.weight': tensor(shape, wave(1.3)), ...norm('net.1', 6) }
    const { scale, bias } = foldedInto(tensors, 'net.1', 1e-3)
    const original = tensors['net.0.weight'].values
    const folded = new Float32Array(original.length)
    for (const [i, value] of original.entries()) folded[at(i)] = value * scale(outputOf(i))
    folded[0] *= change
    const file = modelOf({
      input: [{ name: 'x' }],
      initializer: [floats('onnx::A_1', dims, (i) => folded[i]), floats('onnx::A_2', [6], bias)],
      node: [
        {
          opType,
          name: `/net/net.0/${opType}`,
          input: ['x', 'onnx::A_1', 'onnx::A_2'],
          output: ['y'],
          attribute: opType === 'ConvTranspose' ? [newInt('group', 2)] : [],
        },
      ],
    })
    return { file, tensors, checkpoint: checkpointOf(tensors) }
  }

  test.each(products)('%s: %s', async (...product) => {
    const { file, tensors, checkpoint } = graphWith(product)
    const { graphs, unmatched, tensors: hoisted } = await hoistModel([file], { checkpoint })
    expect(unmatched).toEqual([])
    expect([...hoisted.keys()].sort()).toEqual(Object.keys(tensors).sort())
    for (const [name, { home }] of hoisted)
      expect(await readElements(home.data, 0, home.data.length)).toEqual(tensors[name].values)
    const [made, batchNorm] = graphOf(graphs[0]).node
    expect([made.opType, batchNorm.opType]).toEqual([product[0], 'BatchNormalization'])
    expect(batchNorm.input[0]).toBe(made.output[0])
    expect(batchNorm.output).toEqual(['y'])
    expect(floatAttribute(batchNorm, 'epsilon')).toBeCloseTo(1e-3, 8)
    if (product[0] === 'Gemm') expect(intAttribute(made, 'transB')).toBe(1)
  })

  test('stays where a value is another one, or where no expert is to change it', async () => {
    const head = { 'head.weight': tensor([4, 4], wave(2.1)) }
    for (const [change, targets] of [
      [1.01, undefined],
      [1, (name: string) => name.startsWith('head')],
    ] as const) {
      const { file, tensors } = graphWith(products[2], change)
      const main = file.graph.copy().graph
      const initializer = [...main.initializer, floats('head.weight', [4, 4], wave(2.1))]
      const node = [
        { ...main.node[0], output: ['h'] },
        { opType: 'Gemm', name: '/head/Gemm', input: ['h', 'head.weight'], output: ['y'] },
      ]
      const both = modelOf({ input: [{ name: 'x' }], initializer, node } as Parameters<typeof modelOf>[0])
      const model = await hoistModel([both], { checkpoint: checkpointOf({ ...tensors, ...head }), targets })
      expect([...model.tensors.keys()]).toEqual(['head.weight'])
      expect(graphOf(model.graphs[0]).node.map(({ opType }) => opType)).toEqual(['Conv', 'Gemm'])
      expect(model.unmatched).toEqual(['onnx::A_1'])
    }
  })
})

describe('a table of relative positions', () => {
  /** Of a window of 2 × 2, as Swin counts. */
  const POSITIONS = [4, 3, 1, 0, 5, 4, 2, 1, 7, 6, 4, 3, 8, 7, 5, 4]
  const name = (layer: number) => `net.layer.${layer}.attention.self.relative_position_bias_table`
  /** Both layers read one initializer, as exporters merge equal ones. */
  const graphWith = (table: Float32Array) =>
    modelOf({
      input: [{ name: 'x' }],
      initializer: [
        floats('onnx::Add_7', [1, 2, 4, 4], (i) => table[POSITIONS[i % 16] * 2 + Math.floor(i / 16)]),
      ],
      node: [0, 1].map((layer) => ({
        opType: 'Add',
        name: `/net/layer.${layer}/attention/self/Add`,
        input: [layer === 0 ? 'x' : 'h', 'onnx::Add_7'],
        output: [layer === 0 ? 'h' : 'y'],
      })),
    })

  test.each([
    ['trained', wave(0.9)],
    ['all zeros, as before training', () => 0],
  ])('%s', async (_, value) => {
    const table = tensor([9, 2], value)
    const checkpoint = checkpointOf({ [name(0)]: table, [name(1)]: table })
    const { graphs, tensors } = await hoistModel([graphWith(table.values)], { checkpoint })
    expect([...tensors.keys()].sort()).toEqual([name(0), name(1)])
    const { node, initializer } = graphOf(graphs[0])
    const lookups = node.filter(({ opType }) => opType === 'Gather')
    expect(lookups).toHaveLength(2)
    for (const { input } of lookups) {
      const indices = initializer.find((one) => one.name === input[1])!
      expect([...new BigInt64Array(indices.rawData.slice().buffer)].map(Number)).toEqual(POSITIONS)
      expect(indices.dims).toEqual([1n, 4n, 4n])
    }
    const [perm] = node.find(({ opType }) => opType === 'Transpose')!.attribute
    expect(perm.ints).toEqual([0n, 3n, 1n, 2n])
  })
})

test.each([
  ['weight_g', 'weight_v', 17n],
  ['parametrizations.weight.original0', 'parametrizations.weight.original1', 18n],
])('a weight of length and direction: %s, %s, version %d of the operators', async (g, v, version) => {
  const tensors = { [`conv.${g}`]: tensor([3, 1, 1], wave(0.4)), [`conv.${v}`]: tensor([3, 2, 4], wave(1.7)) }
  const direction = tensors[`conv.${v}`].values
  const lengths = [0, 1, 2].map((o) => Math.hypot(...direction.subarray(o * 8, o * 8 + 8)))
  const folded = (i: number) => {
    const output = Math.floor(i / 8)
    return (tensors[`conv.${g}`].values[output] * direction[i]) / lengths[output]
  }
  const file = modelOf(
    {
      input: [{ name: 'x' }],
      initializer: [floats('onnx::Conv_5', [3, 2, 4], folded)],
      node: [{ opType: 'Conv', name: '/conv/Conv', input: ['x', 'onnx::Conv_5'], output: ['y'] }],
    },
    noFiles,
    'onnx/model.onnx',
    [{ domain: '', version }],
  )
  const { graphs, tensors: hoisted } = await hoistModel([file], { checkpoint: checkpointOf(tensors) })
  expect([...hoisted.keys()].sort()).toEqual(Object.keys(tensors).sort())
  const { node } = graphOf(graphs[0])
  expect(node.map(({ opType }) => opType)).toEqual(['ReduceL2', 'Div', 'Mul', 'Conv'])
  expect(node[0].input).toHaveLength(version >= 18n ? 2 : 1)
  expect(node[3].input[1]).toBe(node[2].output[0])
})
