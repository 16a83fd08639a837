import { create } from '@bufbuild/protobuf'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { loadOrt } from '../../src/cli/node_session.ts'
import { floatsToHalves, halvesToFloats } from '../../src/format/float16.ts'
import { type BypassGraph, OnnxGraph } from '../../src/onnx/index.ts'
import { serializeModel } from '../../src/onnx/proto/model.ts'
import {
  AttributeProto_AttributeType,
  ModelProtoSchema,
  TensorProto_DataType,
} from '../../src/onnx/proto/onnx_pb.ts'
import { bypassOnCpu, type CpuFeed, ReferenceWeights, readExpert } from '../../src/reference/index.ts'
import { memorySource } from '../../src/source/memory.ts'
import { LONG } from '../tier.ts'
import { baseOf, type ExpertSet, expertSets, expertsOf, type Module } from './sets.ts'

const RUNS = LONG ? 200 : 12
const TOKENS = 3
const SIDE = 4

const { FLOAT, FLOAT16, INT64 } = TensorProto_DataType

type Dtype = 'float32' | 'float16'
const ELEMENT = { float32: FLOAT, float16: FLOAT16 } as const
/** f32 in another order of sums; in f16 the merged weights and every value of the bypass are rounded. */
const TOLERANCE = { float32: 1e-5, float16: 2e-2 }

function value(name: string, elemType: number, dims: readonly number[]) {
  const dim = dims.map((size) => ({ value: { case: 'dimValue' as const, value: BigInt(size) } }))
  return { name, type: { value: { case: 'tensorType' as const, value: { elemType, shape: { dim } } } } }
}

/** Nodes from `x_<name>` to `y_<name>`, with the module's weight and bias as inputs of the graph. */
function nodesOf({ name, layout, placement, hasBias, shape }: Module) {
  const [x, y, weight, bias] = [`x_${name}`, `y_${name}`, `${name}.weight`, `${name}.bias`]
  const attribute = (key: string, i: number) => ({
    name: key,
    i: BigInt(i),
    type: AttributeProto_AttributeType.INT,
  })
  const node = (opType: string, input: string[], output: string, attributes: object[] = []) => {
    return { opType, name: `/${name}/${opType}`, input, output: [output], attribute: attributes }
  }
  if (layout === 'embedding') return [node('Gather', [weight, x], y)]
  if (layout === 'conv2d') {
    const pads = {
      name: 'pads',
      ints: new Array<bigint>(4).fill(BigInt(shape[2] >> 1)),
      type: AttributeProto_AttributeType.INTS,
    }
    return [node('Conv', hasBias ? [x, weight, bias] : [x, weight], y, [pads])]
  }
  const product = hasBias ? `${y}_product` : y
  const isInFirst = (layout === 'linear') === (placement === 'transposed')
  return [
    isInFirst
      ? node('MatMul', [x, weight], product)
      : node('Gemm', [x, weight], product, [attribute('transB', 1)]),
    ...(hasBias ? [node('Add', [product, bias], y)] : []),
  ]
}

function dataOf({ layout, inputs }: Module, dtype: Dtype): { elemType: number; dims: number[] } {
  if (layout === 'embedding') return { elemType: INT64, dims: [TOKENS] }
  return { elemType: ELEMENT[dtype], dims: layout === 'conv2d' ? [1, inputs, SIDE, SIDE] : [TOKENS, inputs] }
}

function graphOf(
  modules: readonly Module[],
  weights: BypassGraph['inputs'],
  dtype: Dtype,
): Uint8Array<ArrayBuffer> {
  return serializeModel(
    create(ModelProtoSchema, {
      irVersion: 8n,
      opsetImport: [{ domain: '', version: 17n }],
      graph: {
        name: 'g',
        node: modules.flatMap(nodesOf),
        input: [
          ...modules.map((module) => {
            const { elemType, dims } = dataOf(module, dtype)
            return value(`x_${module.name}`, elemType, dims)
          }),
          ...weights.map(({ name, dims }) => value(name, ELEMENT[dtype], dims)),
        ],
        output: modules.map(({ name, layout, outputs }) =>
          value(
            `y_${name}`,
            ELEMENT[dtype],
            layout === 'conv2d' ? [1, outputs, SIDE, SIDE] : [TOKENS, outputs],
          ),
        ),
      },
    } as never),
  )
}

async function run(
  bytes: Uint8Array,
  modules: readonly Module[],
  feeds: ReadonlyMap<string, CpuFeed>,
  dtype: Dtype,
): Promise<Record<string, Float32Array>> {
  const { Tensor, InferenceSession } = await loadOrt()
  const stored = (floats: Float32Array<ArrayBuffer>) =>
    (dtype === 'float32' ? floats : floatsToHalves(floats)) as Float32Array
  const data = modules.map((module) => {
    const { elemType, dims } = dataOf(module, dtype)
    const count = dims.reduce((product, size) => product * size, 1)
    const tensor =
      elemType === INT64
        ? new Tensor(
            'int64',
            BigInt64Array.from({ length: count }, (_, i) => BigInt(i % module.inputs)),
            dims,
          )
        : new Tensor(dtype, stored(Float32Array.from({ length: count }, (_, i) => Math.sin(i + 1))), dims)
    return [`x_${module.name}`, tensor] as const
  })
  const weights = Array.from(feeds, ([name, feed]) => {
    return [name, new Tensor(feed.dtype, feed.data as Float32Array, feed.dims)] as const
  })
  const session = await InferenceSession.create(bytes, { executionProviders: ['wasm'] })
  const outputs = await session.run(Object.fromEntries([...data, ...weights]))
  await session.release()
  return Object.fromEntries(
    Object.entries(outputs).map(([name, output]) => {
      const data = output.data as Float32Array
      return [name, dtype === 'float32' ? data : halvesToFloats(new Uint16Array(data.buffer))]
    }),
  )
}

/** What a set needs to be bound by `side` at all. */
function hasSides({ experts }: ExpertSet): boolean {
  return experts.every(({ adapters: [linear, conv1d] }) =>
    [linear, conv1d].some(({ delta }) => delta === 'ternary'),
  )
}

test.each(['float32', 'float16'] as const)(
  `${RUNS} sets give through bypasses what they give merged in %s`,
  async (dtype) => {
    const seen = { input: 0, side: 0 }
    await fc.assert(
      fc.asyncProperty(
        expertSets((layout) => layout === 'linear' || layout === 'conv1d'),
        async (set) => {
          const { modules } = set
          const { base, inputs } = await baseOf(set, dtype)
          const weights = await ReferenceWeights.open(memorySource(base.file, 'base.trit'))
          const experts = await Promise.all(
            (await expertsOf(set)).map(async ({ file, weight }) => ({
              expert: await readExpert(memorySource(file.file, 'expert.trit')),
              weight,
            })),
          )
          const tensors = new Map(base.head.table.tensors.map((tensor) => [tensor.name, tensor]))
          const graph = new OnnxGraph('model.onnx', graphOf(modules, inputs, dtype))
          const wanted = await run(
            graph.bytes,
            modules,
            weights.feeds(graph.file, weights.merged(experts)),
            dtype,
          )
          for (const choice of hasSides(set) ? (['input', 'side'] as const) : (['input'] as const)) {
            seen[choice]++
            const { variants, merged } = await bypassOnCpu(
              [{ graph, inputs, tensors }],
              experts,
              choice,
              weights,
            )
            if (choice === 'input') expect(merged.map(({ only }) => only?.size)).toEqual(merged.map(() => 0))
            const rest = weights.merged(merged)
            const variant = variants.get(graph.file) ?? { bytes: graph.bytes, feeds: new Map() }
            const feeds = new Map([...weights.feeds(graph.file, rest), ...variant.feeds])
            const found = await run(variant.bytes, modules, feeds, dtype)
            for (const [name, values] of Object.entries(wanted)) {
              const size = Math.max(1, ...values.map(Math.abs))
              const off = values.map((value, i) => Math.abs(found[name][i] - value))
              expect(Math.max(...off) / size, `${choice} ${name}`).toBeLessThan(TOLERANCE[dtype])
            }
          }
        },
      ),
      { numRuns: RUNS },
    )
    expect(Math.min(seen.input, seen.side)).toBeGreaterThan(0)
  },
)
