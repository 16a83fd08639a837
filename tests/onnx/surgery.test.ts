import { describe, expect, test } from 'vitest'
import { isTritswapError } from '../../src/errors.ts'
import {
  type Checkpoint,
  type HoistedGraphFile,
  hoistModel,
  OnnxGraph,
  readElements,
} from '../../src/onnx/index.ts'
import { parseModel } from '../../src/onnx/proto/model.ts'
import {
  AttributeProto_AttributeType,
  type GraphProto,
  TensorProto_DataLocation,
  TensorProto_DataType,
} from '../../src/onnx/proto/onnx_pb.ts'
import type { ByteSource } from '../../src/source/source.ts'
import { floats, modelOf, noFiles } from './models.ts'

function checkpointOf(
  tensors: Record<string, { shape: number[]; value: (i: number) => number }>,
): Checkpoint {
  return {
    name: 'checkpoint',
    tensors: new Map(Object.entries(tensors).map(([name, { shape }]) => [name, { shape }])),
    read: async (name, first, count) =>
      Float32Array.from({ length: count }, (_, i) => tensors[name].value(first + i)),
  }
}

const one = () => 1
const wave = (i: number) => Math.sin(i + 1)

function graphOf({ graph }: HoistedGraphFile): GraphProto {
  return parseModel(graph.bytes, 'model').graph as GraphProto
}

describe('an initializer that an exporter made of equal tensors', () => {
  const norm = (layer: number) => `model.layers.${layer}.input_layernorm`
  const node = (layer: number, from: string, to: string) => ({
    opType: 'Mul',
    name: `/model/layers.${layer}/input_layernorm/Mul_1`,
    input: [`${norm(0)}.weight`, from],
    output: [to],
  })
  const file = modelOf({
    input: [{ name: 'x' }],
    initializer: [floats(`${norm(0)}.weight`, [32], one)],
    node: [node(0, 'x', 'h'), node(1, 'h', 'y')],
  })

  test.each([
    [
      'by content',
      checkpointOf({
        [`${norm(0)}.weight`]: { shape: [32], value: one },
        [`${norm(1)}.weight`]: { shape: [32], value: one },
      }),
    ],
    ['by name', undefined],
  ])('gives every module an input of its own (%s)', async (_, checkpoint) => {
    const model = await hoistModel([file], { checkpoint })
    const [hoisted] = model.graphs
    const { weights } = hoisted
    expect([...model.tensors.keys()]).toEqual([`${norm(0)}.weight`, `${norm(1)}.weight`])
    expect(weights.map(({ input }) => input.parts[0].tensor)).toEqual([...model.tensors.keys()])
    const graph = graphOf(hoisted)
    expect(graph.initializer).toEqual([])
    expect(graph.node.map(({ input }) => input[0])).toEqual(weights.map(({ input }) => input.name))
    expect(new Set(graph.input.map(({ name }) => name)).size).toBe(3)
  })
})

describe('norms that multiply with 1 + weight', () => {
  const weight = (i: number) => Math.fround(0.3 * wave(i))
  const norm = 'model.layers.0.input_layernorm'
  const file = modelOf({
    input: [{ name: 'x' }],
    initializer: [floats('onnx::Mul_9', [32], (i) => Math.fround(1 + weight(i)))],
    node: [
      {
        opType: 'Mul',
        name: `/${norm.replaceAll('.layers.', '/layers.').replace('.input', '/input')}/Mul_1`,
        input: ['x', 'onnx::Mul_9'],
        output: ['y'],
      },
    ],
  })

  test.each([
    ['by content', { checkpoint: checkpointOf({ [`${norm}.weight`]: { shape: [32], value: weight } }) }],
    ['by the type of the model', { modelType: 'gemma2' }],
  ])('%s, the input has the weight and the graph adds 1', async (_, options) => {
    const model = await hoistModel([file], options)
    const [hoisted] = model.graphs
    const { weights } = hoisted
    expect([...model.tensors.keys()]).toEqual([`${norm}.weight`])
    const values = await readElements(weights[0].data, 0, 32)
    expect(Array.from(values, (value) => Math.fround(value + 1))).toEqual(
      Array.from({ length: 32 }, (_, i) => Math.fround(1 + weight(i))),
    )
    const graph = graphOf(hoisted)
    const [add, mul] = graph.node
    expect(add.opType).toBe('Add')
    expect(add.input[0]).toBe(weights[0].input.name)
    expect(mul.input[1]).toBe(add.output[0])
    const [one] = graph.initializer
    expect([one.name, one.dims, [...new Float32Array(one.rawData.slice().buffer)]]).toEqual([
      add.input[1],
      [],
      [1],
    ])
  })

  test('are others than those of most models', async () => {
    const model = await hoistModel([file], { modelType: 'llama' })
    expect(graphOf(model.graphs[0]).node.map(({ opType }) => opType)).toEqual(['Mul'])
  })
})

test('a module that is called twice has one weight', async () => {
  const call = (n: string, from: string, to: string) => ({
    opType: 'MatMul',
    name: `/layer/query${n}/MatMul`,
    input: [from, 'onnx::MatMul_3'],
    output: [to],
  })
  const model = await hoistModel([
    modelOf({
      input: [{ name: 'x' }],
      initializer: [floats('onnx::MatMul_3', [8, 8], wave)],
      node: [call('', 'x', 'h'), call('_1', 'h', 'y')],
    }),
  ])
  expect([...model.tensors.keys()]).toEqual(['layer.query.weight'])
  const [hoisted] = model.graphs
  const { weights } = hoisted
  expect(graphOf(hoisted).node.map(({ input }) => input[1])).toEqual(Array(2).fill(weights[0].input.name))
})

test('a table of positions that no name tells of is found by its content alone', async () => {
  const file = modelOf({
    input: [{ name: 'x' }],
    initializer: [
      floats('onnx::Add_2', [12, 8], wave),
      floats('onnx::Add_5', [12, 8], (i) => Math.cos(i * i)),
    ],
    node: [
      { opType: 'Add', name: '/Add_2', input: ['x', 'onnx::Add_2'], output: ['h'] },
      { opType: 'Add', name: '/Add_3', input: ['h', 'onnx::Add_5'], output: ['y'] },
    ],
  })
  const checkpoint = checkpointOf({ 'embed_positions.weight': { shape: [12, 8], value: wave } })
  const { tensors, unmatched } = await hoistModel([file], { checkpoint })
  expect([...tensors.keys()]).toEqual(['embed_positions.weight'])
  expect(unmatched).toEqual([])
  // Without a checkpoint it keeps the name that it has: an expert may know it by its values.
  const unnamed = await hoistModel([file])
  expect([...unnamed.tensors.keys()]).toEqual(['onnx::Add_2', 'onnx::Add_5'])
})

test('a parameter under its own name is one wherever it is read, but not where it is a setting', async () => {
  const file = modelOf({
    input: [{ name: 'x' }],
    initializer: [
      floats('logit_scale', [], one),
      floats('encoder.rel_embeddings.weight', [12, 4], wave),
      floats('encoder.norm.weight', [4], wave),
      floats('model.scales', [4], one),
      floats('cos_cache', [16, 4], wave),
    ],
    node: [
      {
        opType: 'LayerNormalization',
        name: '/encoder/norm/LayerNormalization',
        input: ['encoder.rel_embeddings.weight', 'encoder.norm.weight'],
        output: ['a'],
      },
      { opType: 'Exp', name: '/Exp', input: ['logit_scale'], output: ['b'] },
      { opType: 'Mul', name: '/Mul', input: ['a', 'b'], output: ['c'] },
      { opType: 'Resize', name: '/Resize', input: ['c', '', 'model.scales'], output: ['d'] },
      {
        opType: 'RotaryEmbedding',
        domain: 'com.microsoft',
        name: '/Rotary',
        input: ['d', 'x', 'cos_cache'],
        output: ['y'],
      },
    ],
  })
  const { tensors } = await hoistModel([file])
  expect([...tensors.keys()]).toEqual(['logit_scale', 'encoder.rel_embeddings.weight', 'encoder.norm.weight'])
})

test('attn is self_attn to one exporter, and a name like any other elsewhere', async () => {
  const linear = (path: string) => ({
    opType: 'MatMul',
    name: `/model/layers.0/attn/${path}/MatMul`,
    input: ['x', path],
    output: [path === 'Wo' ? 'y' : `${path}_`],
  })
  const file = modelOf({
    input: [{ name: 'x' }],
    initializer: [floats('q_proj', [4, 4], wave), floats('Wo', [4, 4], (i) => Math.cos(i * i))],
    node: [linear('q_proj'), linear('Wo')],
  })
  const { tensors } = await hoistModel([file])
  expect([...tensors.keys()]).toEqual([
    'model.layers.0.self_attn.q_proj.weight',
    'model.layers.0.attn.Wo.weight',
  ])
})

test('an embedding that encoder and decoder share has one name, whichever graph comes first', async () => {
  const graph = (file: string, own: string) =>
    modelOf(
      {
        input: [{ name: 'ids' }],
        initializer: [floats(own, [12, 4], wave)],
        node: [{ opType: 'Gather', name: '/Gather', input: [own, 'ids'], output: ['y'] }],
      },
      noFiles,
      `onnx/${file}.onnx`,
    )
  const both = [graph('decoder_model', 'model.shared.weight'), graph('encoder_model', 'embed_tokens.weight')]
  for (const files of [both, both.toReversed()])
    expect([...(await hoistModel(files)).tensors.keys()]).toEqual(['model.shared.weight'])
})

describe('4-bit weights that stay so', () => {
  const bytes = (name: string, dims: number[], value: (i: number) => number) => ({
    name,
    dims: dims.map(BigInt),
    dataType: TensorProto_DataType.UINT8,
    rawData: Uint8Array.from({ length: dims.reduce((product, size) => product * size, 1) }, (_, i) =>
      value(i),
    ),
  })
  const attributes = (rows: number) =>
    Object.entries({ N: rows, K: 20, bits: 4, block_size: 16 }).map(([name, i]) => ({
      name,
      type: AttributeProto_AttributeType.INT,
      i: BigInt(i),
    }))
  const product = (module: string, rows: number, inputs: string[], output: string) => ({
    opType: 'MatMulNBits',
    domain: 'com.microsoft',
    name: `/${module}/MatMul_Q4`,
    input: inputs,
    output: [output],
    attribute: attributes(rows),
  })
  /** Two matrices with one initializer of zero points between them, as tools that remove duplicates leave it. */
  const file = modelOf({
    input: [{ name: 'x' }],
    initializer: [
      bytes('a_Q4', [8, 2, 8], (i) => i),
      bytes('b_Q4', [8, 2, 8], (i) => 255 - i),
      floats('a_scales', [16], wave),
      floats('b_scales', [16], (i) => -wave(i)),
      bytes('zeros', [8], (i) => 16 * i),
    ],
    node: [
      product('up', 8, ['x', 'a_Q4', 'a_scales', 'zeros'], 'h'),
      product('down', 8, ['h', 'b_Q4', 'b_scales', 'zeros'], 'y'),
    ],
  })

  test('have an input for each component of each of them', async () => {
    const model = await hoistModel([file], { quantized: 'keep' })
    const [hoisted] = model.graphs
    const { weights } = hoisted
    const graph = graphOf(hoisted)
    expect(graph.initializer).toEqual([])
    expect(graph.node.map(({ opType }) => opType)).toEqual(['MatMulNBits', 'MatMulNBits'])
    const inputs = new Map(weights.map(({ input }) => [input.name, input]))
    expect(graph.input.map(({ name }) => name).sort()).toEqual(['x', ...inputs.keys()].sort())
    for (const [i, module] of ['up', 'down'].entries()) {
      const fed = graph.node[i].input.slice(1).map((name) => inputs.get(name))
      expect(fed.map((input) => [input?.raw, input?.dtype, input?.parts[0].tensor])).toEqual([
        ['weights', 'uint8', `${module}.weight`],
        ['scales', 'float32', `${module}.weight`],
        ['zeroPoints', 'uint8', `${module}.weight`],
      ])
    }
    expect(model.tensors.get('up.weight')).toMatchObject({
      shape: [8, 20],
      quantized: { code: { bits: 4, blockSize: 16, dtype: 'f32', zeroPoints: 'packed' }, firstRow: 0 },
    })
  })

  test('stay in the graph where they are not asked for', async () => {
    const model = await hoistModel([file], { quantized: 'keep', targets: (name) => name === 'up.weight' })
    const [hoisted] = model.graphs
    const { weights } = hoisted
    expect(weights.map(({ input }) => input.name)).toEqual(['a_Q4', 'a_scales', 'zeros'])
    const { initializer, node } = graphOf(hoisted)
    expect(initializer.map(({ name }) => name)).toEqual(['b_Q4', 'b_scales'])
    expect(node[1].input).toEqual(['h', 'b_Q4', 'b_scales', 'zeros'])
  })

  test('are floats by default, and what stays quantized is reported', async () => {
    const float = await hoistModel([file], { targets: (name) => name === 'up.weight' })
    const { node, initializer } = graphOf(float.graphs[0])
    expect(node.map(({ opType }) => opType)).toEqual(['MatMul', 'MatMulNBits'])
    expect(initializer.map(({ name }) => name)).toEqual(['b_Q4', 'b_scales', 'zeros'])
    expect(float.quantized).toEqual(['/down/MatMul_Q4'])
  })
})

test('weights in a Constant node, with the other operand, and behind a Transpose', async () => {
  const constant = floats('', [8, 4], wave)
  const model = await hoistModel(
    [
      modelOf({
        node: [
          {
            opType: 'Constant',
            output: ['w'],
            attribute: [{ name: 'value', type: AttributeProto_AttributeType.TENSOR, t: constant }],
          },
          { opType: 'Transpose', input: ['w'], output: ['wt'] },
          { opType: 'MatMul', name: '/head/MatMul', input: ['x', 'wt'], output: ['y'] },
        ],
      }),
    ],
    {},
  )
  expect(model.graphs[0].weights[0].input).toMatchObject({
    name: 'w',
    dims: [8, 4],
    parts: [{ tensor: 'head.weight', rowStride: 4, colStride: 1 }],
  })
})

test('equal names in the branches of an If become different inputs', async () => {
  const branch = (name: string, value: (i: number) => number) => ({
    name,
    type: AttributeProto_AttributeType.GRAPH,
    g: {
      initializer: [floats('w', [8, 4], value)],
      node: [{ opType: 'MatMul', name: `/${name}/MatMul`, input: ['x', 'w'], output: [`${name}_y`] }],
      output: [{ name: `${name}_y` }],
    },
  })
  const model = await hoistModel([
    modelOf({
      input: [{ name: 'x' }],
      node: [
        {
          opType: 'If',
          input: ['cond'],
          output: ['y'],
          attribute: [branch('left', wave), branch('right', one)],
        },
      ],
    }),
  ])
  const [hoisted] = model.graphs
  const { weights } = hoisted
  expect([...model.tensors.keys()].sort()).toEqual(['left.weight', 'right.weight'])
  const [{ attribute }] = graphOf(hoisted).node
  const read = attribute.map(({ g }) => g?.node[0].input[1])
  expect(read).toEqual(weights.map(({ input }) => input.name))
  expect(new Set(read).size).toBe(2)
})

test('two graphs with equal names for different weights', async () => {
  const file = (name: string, value: (i: number) => number) =>
    modelOf(
      {
        initializer: [floats('onnx::MatMul_7', [8, 4], value)],
        node: [{ opType: 'MatMul', name: '/proj/MatMul', input: ['x', 'onnx::MatMul_7'], output: ['y'] }],
      },
      noFiles,
      `onnx/${name}.onnx`,
    )
  const model = await hoistModel([file('decoder_model', wave), file('encoder_model', (i) => -wave(i))])
  const names = model.graphs.flatMap(({ weights }) => weights.map(({ input }) => input.name))
  expect(new Set(names).size).toBe(2)
  expect([...model.tensors.keys()].sort()).toEqual(['encoder.proj.weight', 'proj.weight'])
  const shared = await hoistModel([file('decoder_model', wave), file('vision_model', wave)])
  expect(new Set(shared.graphs.flatMap(({ weights }) => weights.map(({ input }) => input.name))).size).toBe(1)
})

describe('external data', () => {
  const located = (location: string, offset: number) =>
    modelOf(
      {
        initializer: [
          {
            name: 'fc.weight',
            dims: [4n, 8n],
            dataType: TensorProto_DataType.FLOAT,
            dataLocation: TensorProto_DataLocation.EXTERNAL,
            externalData: [
              { key: 'location', value: location },
              { key: 'offset', value: String(offset) },
              { key: 'length', value: '128' },
            ],
          },
        ],
        node: [{ opType: 'Gemm', name: '/fc/Gemm', input: ['x', 'fc.weight'], output: ['y'] }],
      },
      (name): ByteSource => ({
        name,
        size: async () => 6e9,
        read: async (at, length) => {
          reads.push({ at, length })
          return new Uint8Array(length)
        },
      }),
    )
  const reads: { at: number; length: number }[] = []

  test('is read where it lies, beyond 4 GiB, and not before it is asked for', async () => {
    const model = await hoistModel([located('model.onnx_data', 5e9)])
    expect(reads).toEqual([])
    await readElements(model.graphs[0].weights[0].data, 2, 3)
    expect(reads).toEqual([{ at: 5e9 + 8, length: 12 }])
    expect(model.graphs[0].graph.bytes.length).toBeLessThan(300)
  })

  test.each(['../secret', '/etc/passwd', 'https://example.org/x', 'a/../../b', ''])(
    'is refused outside the folder: %s',
    async (location) => {
      const error = await hoistModel([located(location, 0)]).catch((thrown: unknown) => thrown)
      expect(isTritswapError(error, 'input')).toBe(true)
    },
  )
})

test('typed fields, and the input lists of old files', async () => {
  const values = Array.from({ length: 32 }, (_, i) => wave(i))
  const model = await hoistModel([
    modelOf({
      input: [{ name: 'x' }, { name: 'fc.weight' }],
      initializer: [
        { name: 'fc.weight', dims: [4n, 8n], dataType: TensorProto_DataType.FLOAT, floatData: values },
      ],
      node: [{ opType: 'Gemm', name: '/fc/Gemm', input: ['x', 'fc.weight'], output: ['y'] }],
    }),
  ])
  const [hoisted] = model.graphs
  const { weights } = hoisted
  expect(await readElements(weights[0].data, 0, 32)).toEqual(Float32Array.from(values))
  expect(graphOf(hoisted).input.map(({ name }) => name)).toEqual(['x', 'fc.weight'])
})

test('a checkpoint of another model is refused', async () => {
  const file = modelOf({
    initializer: [floats('fc.weight', [8, 4], wave)],
    node: [{ opType: 'Gemm', name: '/fc/Gemm', input: ['x', 'fc.weight'], output: ['y'] }],
  })
  const checkpoint = checkpointOf({ 'fc.weight': { shape: [8, 4], value: (i) => Math.cos(i * i) } })
  const error = await hoistModel([file], { checkpoint }).catch((thrown: unknown) => thrown)
  expect(isTritswapError(error, 'input')).toBe(true)
  expect(String(error)).toContain('fc.weight')
})

test('bytes that are no ONNX model', async () => {
  const file = { graph: new OnnxGraph('model.onnx', Uint8Array.from([1, 2, 3, 255])), external: noFiles }
  const error = await hoistModel([file]).catch((thrown: unknown) => thrown)
  expect(isTritswapError(error, 'input')).toBe(true)
})
