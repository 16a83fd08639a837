import { create } from '@bufbuild/protobuf'
import { describe, expect, test } from 'vitest'
import { loadOrt } from '../../src/cli/node_session.ts'
import { type Checkpoint, hoistModel, type QuantizedChoice, readElements } from '../../src/onnx/index.ts'
import { newInput, newInt } from '../../src/onnx/proto/nodes.ts'
import { OperatorSetIdProtoSchema, TensorProto_DataType } from '../../src/onnx/proto/onnx_pb.ts'
import { floats, modelOf } from './models.ts'

const IN = 32
const OUT = 16
const GATE = 'model.layers.0.mlp.gate_proj.weight'
const UP = 'model.layers.0.mlp.up_proj.weight'
const BOTH = 'model.layers.0.mlp.gate_up_proj.weight'
const wave = (from: number) => (i: number) => Math.sin(from + 3 * i)
const opsets = (version: bigint) => [
  create(OperatorSetIdProtoSchema, { domain: '', version }),
  create(OperatorSetIdProtoSchema, { domain: 'com.microsoft', version: 1n }),
]
const graphOf = (parts: Pick<Parameters<typeof modelOf>[0], 'initializer' | 'node'>, version = 17n) =>
  modelOf(
    {
      input: [newInput('x', 'float32', [1, 3, IN])],
      initializer: parts.initializer,
      node: [...parts.node!, { opType: 'Mul', name: '/mul/Mul', input: ['gate', 'up'], output: ['y'] }],
    },
    undefined,
    undefined,
    opsets(version),
  )

/** As onnxruntime-genai exports Phi-3: gate and up, as [in, out]. */
const inFloats = (version?: bigint) =>
  graphOf(
    {
      initializer: ['gate', 'up'].map((part, i) =>
        floats(`model.layers.0.mlp.${part}_proj.MatMul.weight`, [IN, OUT], wave(i)),
      ),
      node: ['gate', 'up'].map((part) => ({
        opType: 'MatMul',
        name: `/model/layers.0/mlp/${part}_proj/MatMul`,
        input: ['x', `model.layers.0.mlp.${part}_proj.MatMul.weight`],
        output: [part],
      })),
    },
    version,
  )

const inFourBits = (withZeroPoints: boolean) => {
  const name = (part: string, of: string) => `model.layers.0.mlp.${part}_proj.MatMul.weight_${of}`
  const bytes = (of: string, dims: number[], from: number) => ({
    name: of,
    dims: dims.map(BigInt),
    dataType: TensorProto_DataType.UINT8,
    rawData: Uint8Array.from({ length: dims.reduce((a, b) => a * b) }, (_, i) => (from + 37 * i) % 256),
  })
  return graphOf({
    initializer: ['gate', 'up'].flatMap((part, i) => [
      bytes(name(part, 'Q4'), [OUT, 2, 8], i),
      floats(name(part, 'scales'), [OUT * 2], wave(i)),
      ...(withZeroPoints ? [bytes(name(part, 'zero_points'), [OUT], 3 + i)] : []),
    ]),
    node: ['gate', 'up'].map((part) => ({
      opType: 'MatMulNBits',
      domain: 'com.microsoft',
      name: `/model/layers.0/mlp/${part}_proj/MatMul_Q4`,
      input: [
        'x',
        ...(withZeroPoints ? ['Q4', 'scales', 'zero_points'] : ['Q4', 'scales']).map((of) => name(part, of)),
      ],
      output: [part],
      attribute: Object.entries({ K: IN, N: OUT, bits: 4, block_size: 16 }).map(([key, value]) =>
        newInt(key, value),
      ),
    })),
  })
}

/** As Phi-3 after torch's exporter, or Llama after a pass that joins: one product with a Split behind it. */
const asOne = graphOf({
  initializer: [
    floats(BOTH.replace('.weight', '.MatMul.weight'), [IN, 2 * OUT], wave(0)),
    {
      name: 'sizes',
      dims: [2n],
      dataType: TensorProto_DataType.INT64,
      rawData: new Uint8Array(BigInt64Array.of(BigInt(OUT), BigInt(OUT)).buffer),
    },
  ],
  node: [
    {
      opType: 'MatMul',
      name: '/model/layers.0/mlp/gate_up_proj/MatMul',
      input: ['x', BOTH.replace('.weight', '.MatMul.weight')],
      output: ['both'],
    },
    { opType: 'Split', input: ['both', 'sizes'], output: ['gate', 'up'], attribute: [newInt('axis', -1)] },
  ],
})

type Feeds = ReadonlyMap<string, { dims: readonly number[]; dtype: string; data: Float32Array | Uint8Array }>

async function run(bytes: Uint8Array, feeds: Feeds = new Map()): Promise<Float32Array> {
  const { InferenceSession, Tensor } = await loadOrt()
  const session = await InferenceSession.create(bytes, { executionProviders: ['wasm'] })
  const own = Array.from(feeds, ([name, { dtype, data, dims }]) => [
    name,
    new Tensor(dtype as 'float32', data as Float32Array, dims),
  ])
  const x = new Tensor(
    'float32',
    Float32Array.from({ length: 3 * IN }, (_, i) => wave(9)(i)),
    [1, 3, IN],
  )
  const { y } = await session.run({ x, ...Object.fromEntries(own) })
  await session.release()
  return y.data as Float32Array
}

async function hoisted(file: ReturnType<typeof graphOf>, options: Parameters<typeof hoistModel>[1]) {
  const model = await hoistModel([file], options)
  const feeds = new Map<string, { dims: readonly number[]; dtype: string; data: Float32Array | Uint8Array }>()
  for (const { input, data } of model.graphs[0].weights) {
    const stored =
      data.dtype === 'uint8'
        ? await data.source.read(data.offset, data.length)
        : ((await readElements(data, 0, data.length)) as Float32Array)
    feeds.set(input.name, { dims: input.dims, dtype: input.dtype, data: stored })
  }
  return { model, feeds, bytes: model.graphs[0].graph.bytes }
}

function checkpointOf(
  values: Record<string, (row: number, col: number) => number>,
  rows: number,
): Checkpoint {
  return {
    name: 'model.safetensors',
    tensors: new Map(Object.keys(values).map((name) => [name, { shape: [rows, IN] }])),
    read: async (name, first, count) =>
      Float32Array.from({ length: count }, (_, i) =>
        values[name](Math.floor((first + i) / IN), (first + i) % IN),
      ),
  }
}
const gate = (row: number, col: number) => Math.fround(wave(0)(col * OUT + row))
const up = (row: number, col: number) => Math.fround(wave(1)(col * OUT + row))
const joined = checkpointOf(
  { [BOTH]: (row, col) => (row < OUT ? gate(row, col) : up(row - OUT, col)) },
  2 * OUT,
)

describe('gate and up of a graph whose checkpoint has them as one', () => {
  test.each([
    ['a checkpoint', { checkpoint: joined }, 17n],
    ['the type of model', { modelType: 'phi3' }, 17n],
    ['a graph of older operators', { modelType: 'phi3' }, 11n],
  ])('are one input, by %s', async (_, options, version) => {
    const file = inFloats(version)
    const { model, feeds, bytes } = await hoisted(file, options)
    expect(Array.from(model.tensors, ([name, { shape }]) => [name, ...shape])).toEqual([[BOTH, 2 * OUT, IN]])
    expect(model.unmatched).toEqual([])
    expect(await run(bytes, feeds)).toEqual(await run(file.graph.bytes))
    const [[, { data }]] = feeds
    expect(data).toEqual(
      Float32Array.from({ length: 2 * OUT * IN }, (_, i) => {
        const [col, row] = [Math.floor(i / (2 * OUT)), i % (2 * OUT)]
        return row < OUT ? gate(row, col) : up(row - OUT, col)
      }),
    )
    // An expert reaches both halves through the one tensor.
    const doubled = new Map(
      Array.from(feeds, ([name, feed]) => [name, { ...feed, data: data.map((v) => 2 * v) }]),
    )
    const twice = await run(bytes, doubled as Feeds)
    const once = await run(file.graph.bytes)
    for (const [i, value] of twice.entries()) expect(value).toBeCloseTo(4 * once[i], 3)
  })

  test.each(
    (['keep', 'float'] as QuantizedChoice[]).flatMap((quantized) =>
      [true, false].map((withZeroPoints) => ({ quantized, withZeroPoints })),
    ),
  )(
    'are one 4-bit weight: $quantized, zero points $withZeroPoints',
    async ({ quantized, withZeroPoints }) => {
      const file = inFourBits(withZeroPoints)
      const { model, feeds, bytes } = await hoisted(file, { quantized, modelType: 'phi3' })
      expect(Array.from(model.tensors, ([name, { shape }]) => [name, ...shape])).toEqual([
        [BOTH, 2 * OUT, IN],
      ])
      const found = await run(bytes, feeds)
      const expected = await run(file.graph.bytes)
      for (const [i, value] of found.entries()) expect(value).toBeCloseTo(expected[i], 3)
    },
  )

  test('stay apart where the checkpoint, or the type of model, has them apart', async () => {
    const apart = checkpointOf({ [GATE]: gate, [UP]: up }, OUT)
    for (const options of [{ checkpoint: apart }, { modelType: 'llama' }, {}]) {
      const { model } = await hoisted(inFloats(), options)
      expect([...model.tensors.keys()]).toEqual([GATE, UP])
    }
  })
})

test('one product of a graph is gate and up where the checkpoint has them apart', async () => {
  const values = (first: number) => (row: number, col: number) =>
    Math.fround(wave(0)(col * 2 * OUT + row + first))
  const apart = checkpointOf({ [GATE]: values(0), [UP]: values(OUT) }, OUT)
  for (const options of [{ checkpoint: apart }, { modelType: 'llama' }]) {
    const { model, feeds, bytes } = await hoisted(asOne, options)
    expect(Array.from(model.tensors, ([name, { shape }]) => [name, ...shape])).toEqual([
      [GATE, OUT, IN],
      [UP, OUT, IN],
    ])
    expect(model.graphs[0].weights[0].input.parts.map(({ offset }) => offset)).toEqual([0, OUT])
    expect(await run(bytes, feeds)).toEqual(await run(asOne.graph.bytes))
  }
  for (const options of [{ modelType: 'phi3' }, {}])
    expect([...(await hoisted(asOne, options)).model.tensors.keys()]).toEqual([BOTH])
})

test('q, k and v of a graph are one tensor where the checkpoint has one; norms of heads are inputs of the attention', async () => {
  const names = ['q', 'k', 'v'].map((part) => `model.layers.0.attn.${part}_proj.MatMul.weight`)
  const norms = ['q', 'k'].map((part) => `model.layers.0.attn.${part}_norm.layernorm.weight`)
  const file = modelOf({
    input: [{ name: 'x' }],
    initializer: [
      ...names.map((name, i) => floats(name, [IN, i === 0 ? OUT : OUT / 2], wave(i))),
      ...norms.map((name, i) => floats(name, [8], wave(5 + i))),
    ],
    node: [
      ...['q', 'k', 'v'].map((part, i) => ({
        opType: 'MatMul',
        name: `/model/layers.0/attn/${part}_proj/MatMul`,
        input: ['x', names[i]],
        output: [part],
      })),
      {
        opType: 'GroupQueryAttention',
        domain: 'com.microsoft',
        name: '/model/layers.0/attn/GroupQueryAttention',
        input: ['q', 'k', 'v', ...Array(11).fill(''), ...norms],
        output: ['y'],
        attribute: [newInt('num_heads', 2), newInt('kv_num_heads', 1)],
      },
    ],
  })
  const namesIn = async (modelType: string) =>
    [...(await hoistModel([file], { modelType })).tensors.keys()].sort()
  const own = ['k_norm', 'q_norm'].map((norm) => `model.layers.0.self_attn.${norm}.weight`)
  expect(await namesIn('phi3')).toEqual([...own, 'model.layers.0.self_attn.qkv_proj.weight'])
  expect(await namesIn('qwen3')).toEqual(
    ['k_norm', 'k_proj', 'q_norm', 'q_proj', 'v_proj'].map(
      (module) => `model.layers.0.self_attn.${module}.weight`,
    ),
  )
  // A norm that multiplies with 1 + weight has the sum in the graph.
  const gemma = await hoistModel([file], { modelType: 'gemma3_text' })
  const { data } = gemma.tensors.get(own[0])!.home
  expect((await readElements(data, 0, 8))[0]).toBeCloseTo(wave(6)(0) - 1, 6)
})
