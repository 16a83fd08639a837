import { create } from '@bufbuild/protobuf'
import { describe, expect, test } from 'vitest'
import { loadOrt } from '../../src/cli/node_session.ts'
import { memorySpool } from '../../src/format/index.ts'
import {
  addBypass,
  bindingsOf,
  hoistModel,
  readElements,
  sitesOf,
  weightTable,
  writeBaseWeights,
} from '../../src/onnx/index.ts'
import { newInput, newInt } from '../../src/onnx/proto/nodes.ts'
import {
  OperatorSetIdProtoSchema,
  TensorProto_DataType,
  TensorProtoSchema,
} from '../../src/onnx/proto/onnx_pb.ts'
import { bypassOnCpu, type ReferenceExpert, ReferenceWeights } from '../../src/reference/index.ts'
import { memorySource } from '../../src/source/memory.ts'
import { floats, modelOf } from './models.ts'

const SIZE = 8
const MICROSOFT = 'com.microsoft'
const wave = (from: number) => (i: number) => Math.sin(from + 3 * i)
const matrix = (name: string, from: number) => floats(name, [SIZE, SIZE], wave(from))
const vector = (name: string, from: number, size = SIZE) => floats(name, [size], wave(from))
const linear = (name: string, output: string) => ({
  opType: 'MatMul',
  name: `/${name}/MatMul`,
  input: ['x', `${name}.weight`],
  output: [output],
})

type Case = Pick<Parameters<typeof modelOf>[0], 'initializer' | 'node'>

/** y of one linear module, or of q, k and v, with a bias that a fused operator adds. */
const FUSED: Record<string, Case & { biases: string[] }> = {
  SkipLayerNormalization: {
    biases: ['fused_bias'],
    initializer: [matrix('fc.weight', 1), vector('gamma', 2), vector('beta', 3), vector('fused_bias', 4)],
    node: [
      linear('fc', 'h'),
      {
        opType: 'SkipLayerNormalization',
        domain: MICROSOFT,
        input: ['h', 'x', 'gamma', 'beta', 'fused_bias'],
        output: ['y'],
      },
    ],
  },
  BiasGelu: {
    biases: ['fused_bias'],
    initializer: [matrix('fc.weight', 1), vector('fused_bias', 4)],
    node: [
      linear('fc', 'h'),
      { opType: 'BiasGelu', domain: MICROSOFT, input: ['h', 'fused_bias'], output: ['y'] },
    ],
  },
  Add: {
    biases: ['fused_bias'],
    initializer: [matrix('fc.weight', 1), vector('fused_bias', 4)],
    node: [linear('fc', 'h'), { opType: 'Add', input: ['fused_bias', 'h'], output: ['y'] }],
  },
  MultiHeadAttention: {
    biases: ['fused_bias'],
    initializer: [
      matrix('q.weight', 1),
      matrix('k.weight', 2),
      matrix('v.weight', 3),
      vector('fused_bias', 4, 3 * SIZE),
    ],
    node: [
      linear('q', 'queries'),
      linear('k', 'keys'),
      linear('v', 'values'),
      {
        opType: 'MultiHeadAttention',
        domain: MICROSOFT,
        input: ['queries', 'keys', 'values', 'fused_bias'],
        output: ['y'],
        attribute: [newInt('num_heads', 2)],
      },
    ],
  },
}

function fileOf({ initializer, node }: Case) {
  return modelOf(
    { input: [newInput('x', 'float32', [1, 3, SIZE])], initializer, node },
    undefined,
    undefined,
    [
      create(OperatorSetIdProtoSchema, { domain: '', version: 17n }),
      create(OperatorSetIdProtoSchema, { domain: MICROSOFT, version: 1n }),
    ],
  )
}

async function hoisted(graph: Case) {
  const model = await hoistModel([fileOf(graph)], { targets: (name) => name.endsWith('.weight') })
  const [{ inputs }] = bindingsOf(model).graphs
  const tensors = new Map(weightTable(model).tensors.map((tensor) => [tensor.name, tensor]))
  const values = new Map<string, Float32Array>()
  for (const { input, data } of model.graphs[0].weights)
    values.set(input.name, Float32Array.from(await readElements(data, 0, data.length)))
  return { graph: { graph: model.graphs[0].graph, inputs, tensors }, values }
}

async function run(
  bytes: Uint8Array,
  feeds: ReadonlyMap<string, { data: Float32Array; dims: readonly number[] }>,
) {
  const { InferenceSession, Tensor } = await loadOrt()
  const session = await InferenceSession.create(bytes, { executionProviders: ['wasm'] })
  const x = new Tensor(
    'float32',
    Float32Array.from({ length: 3 * SIZE }, (_, i) => wave(9)(i)),
    [1, 3, SIZE],
  )
  const own = Array.from(
    feeds,
    ([name, { data, dims }]) => [name, new Tensor('float32', data, dims)] as const,
  )
  const { y } = await session.run({ x, ...Object.fromEntries(own) })
  await session.release()
  return y.data as Float32Array
}

describe.each(Object.entries(FUSED))('a bias that %s adds', (_, { initializer, node, biases }) => {
  test('is scaled with the outputs of its linear module', async () => {
    const { graph, values } = await hoisted({ initializer, node })
    const sites = sitesOf(graph)
    const factor = (site: number) => (i: number) => 1.5 + site + 0.25 * i
    const variant = addBypass(graph, new Map(sites.map(({ key }) => [key, { outputScale: true }])))
    const feeds = new Map(
      Array.from(values, ([name, data]) => [name, { data, dims: [SIZE, SIZE] as readonly number[] }]),
    )
    for (const { name, site } of variant.inputs) {
      const index = sites.findIndex(({ key }) => key === site)
      feeds.set(name, { data: Float32Array.from({ length: SIZE }, (_, i) => factor(index)(i)), dims: [SIZE] })
    }
    // The same with scaled columns of the weights [in, out], and a scaled bias.
    const scaled = initializer!.map((tensor) => {
      const bytes = (tensor.rawData as Uint8Array).slice()
      const data = new Float32Array(bytes.buffer)
      const index = sites.findIndex(({ weight }) => weight === tensor.name)
      if (index >= 0) for (let i = 0; i < data.length; i++) data[i] *= factor(index)(i % SIZE)
      else if (biases.includes(tensor.name!))
        for (let i = 0; i < data.length; i++) data[i] *= factor(Math.floor(i / SIZE))(i % SIZE)
      return create(TensorProtoSchema, { ...tensor, dataType: TensorProto_DataType.FLOAT, rawData: bytes })
    })
    const expected = await run(fileOf({ initializer: scaled, node }).graph.bytes, new Map())
    const found = await run(variant.bytes, feeds)
    for (const [i, value] of found.entries()) expect(value).toBeCloseTo(expected[i], 3)
  })

  const MODULES = initializer!.filter(({ dims }) => dims!.length === 2).map(({ name }) => name!)
  const choices = ['merge', 'input'] as const
  test.each(choices.flatMap((choice) => [true, false].map((isHoisted) => ({ choice, isHoisted }))))(
    'is scaled by (IA)³: $choice, bias among the inputs $isHoisted',
    async ({ choice, isHoisted }) => {
      const model = await hoistModel([fileOf({ initializer, node })], {
        targets: (name) => isHoisted || name.endsWith('.weight'),
      })
      const spool = memorySpool()
      const head = await writeBaseWeights(model, spool, { base: {} })
      const weights = await ReferenceWeights.open(memorySource(spool.join(head)))
      const { tensors, bindings } = weights.head.table
      const { graph } = model.graphs[0]
      const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]))
      const factors = MODULES.map((_, site) =>
        Float32Array.from({ length: SIZE }, (_, i) => 0.5 + site + 0.25 * i),
      )
      const expert = {
        table: {
          method: 'ia3',
          tensors: MODULES.map((target) => ({
            name: target,
            target,
            shape: [SIZE],
            role: 'ia3',
            // As MatMul has it: the checkpoint's weight is [in, out].
            layout: 'conv1d',
            codec: 'dense',
          })),
        },
        values: factors,
      } as unknown as ReferenceExpert
      const entry = { expert, weight: 1 }
      const bypassGraph = { graph, inputs: bindings!.graphs[0].inputs, tensors: byName }
      const { variants, merged } = await bypassOnCpu([bypassGraph], [entry], choice, weights)
      const changed = weights.merged(merged)
      const variant = variants.get(graph.file)
      const feeds = new Map([...weights.feeds(graph.file, changed), ...(variant?.feeds ?? [])])
      const scaled = initializer!.map((tensor) => {
        const data = new Float32Array((tensor.rawData as Uint8Array).slice().buffer)
        const site = MODULES.indexOf(tensor.name!)
        for (let i = 0; i < data.length; i++) {
          if (site >= 0) data[i] *= 1 + factors[site][i % SIZE]
          else if (biases.includes(tensor.name!)) data[i] *= 1 + factors[Math.floor(i / SIZE)][i % SIZE]
        }
        const rawData = new Uint8Array(data.buffer)
        return create(TensorProtoSchema, { ...tensor, dataType: TensorProto_DataType.FLOAT, rawData })
      })
      const expected = await run(fileOf({ initializer: scaled, node }).graph.bytes, new Map())
      const found = await run(variant?.bytes ?? graph.bytes, feeds as never)
      for (const [i, value] of found.entries()) expect(value).toBeCloseTo(expected[i], 3)
    },
  )
})

test('a fused product is a site, with its weight as MatMul has it or transposed', async () => {
  for (const transB of [0, 1]) {
    const node = {
      ...linear('fc', 'y'),
      opType: 'FusedMatMul',
      domain: MICROSOFT,
      attribute: [newInt('transB', transB)],
    }
    const { graph } = await hoisted({ initializer: [matrix('fc.weight', 1)], node: [node] })
    expect(sitesOf(graph)).toMatchObject([
      { kind: 'linear', parts: [{ target: 'fc.weight', transposed: transB === 0 }] },
    ])
  }
})
