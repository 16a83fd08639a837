import { create } from '@bufbuild/protobuf'
import { beforeEach, expect, test } from 'vitest'
import { loadOrt } from '../../src/cli/node_session.ts'
import type { ResidentExpert } from '../../src/gpu/index.ts'
import { BypassBuffers } from '../../src/model/bypass_buffers.ts'
import { planBypass } from '../../src/model/bypass_plan.ts'
import { rankAt } from '../../src/model/bypass_requests.ts'
import { bindExpert } from '../../src/model/expert_bindings.ts'
import { GraphVariants, type Slots } from '../../src/model/graph_variants.ts'
import type { OrtSession } from '../../src/model/hoisted_session.ts'
import { SiteIndex } from '../../src/model/site_index.ts'
import { type BypassGraph, OnnxGraph } from '../../src/onnx/index.ts'
import { serializeModel } from '../../src/onnx/proto/model.ts'
import { ModelProtoSchema, TensorProto_DataType } from '../../src/onnx/proto/onnx_pb.ts'
import { type ReferenceExpert, readExpert } from '../../src/reference/index.ts'
import { type CpuBuffer, ReferenceUnpacker } from '../../src/reference/unpacker.ts'
import { memorySource } from '../../src/source/memory.ts'
import { container, denseOf, termsOf } from '../gpu/fixtures.ts'
import { Random } from '../gpu/random.ts'

/** y = x · W of each name, W [INPUTS, OUTPUTS]. */
const NAMES = ['a', 'b', 'c']
const [INPUTS, OUTPUTS] = [12, 8]
const random = new Random(3)
const weights = new Map(NAMES.map((name) => [name, random.floats(INPUTS * OUTPUTS)]))
const x = random.floats(INPUTS)

const value = (name: string, sizes: readonly number[]) => ({
  name,
  type: {
    value: {
      case: 'tensorType' as const,
      value: {
        elemType: TensorProto_DataType.FLOAT,
        shape: { dim: sizes.map((size) => ({ value: { case: 'dimValue' as const, value: BigInt(size) } })) },
      },
    },
  },
})
const bytes = serializeModel(
  create(ModelProtoSchema, {
    irVersion: 8n,
    opsetImport: [{ domain: '', version: 17n }],
    graph: {
      name: 'g',
      node: NAMES.map((name) => ({
        name: `/${name}/MatMul`,
        opType: 'MatMul',
        input: ['x', `${name}.weight`],
        output: [`y_${name}`],
      })),
      input: [value('x', [1, INPUTS]), ...NAMES.map((name) => value(`${name}.weight`, [INPUTS, OUTPUTS]))],
      output: NAMES.map((name) => value(`y_${name}`, [1, OUTPUTS])),
    },
  } as never),
)
const base = await container(
  'base',
  NAMES.map((name) => denseOf(`${name}.weight`, [OUTPUTS, INPUTS], random.floats(INPUTS * OUTPUTS), 'f32')),
)
const graph: BypassGraph = {
  graph: new OnnxGraph('model.onnx', bytes),
  inputs: NAMES.map((name) => ({
    name: `${name}.weight`,
    dtype: 'float32',
    dims: [INPUTS, OUTPUTS],
    parts: [{ tensor: `${name}.weight`, offset: 0, rowStride: 1, colStride: OUTPUTS }],
  })),
  tensors: new Map(base.head.table.tensors.map((tensor) => [tensor.name, tensor])),
}
const sites = new SiteIndex([['model', graph]])
const floats = {
  floatPlacementsOf: (target: string) => [{ input: target, dtype: 'float32' as const }],
  isQuantized: () => false,
}

/** An expert with terms of some modules. */
async function expertOf(terms: Readonly<{ [name: string]: number | undefined }>): Promise<ReferenceExpert> {
  const sections = Object.entries(terms).map(([name, count]) =>
    termsOf(`${name}.weight`, [OUTPUTS, INPUTS], count as number, random),
  )
  return readExpert(memorySource((await container('expert', sections)).file, 'expert.trit'))
}

/** What a set of experts needs. */
function planOf(experts: readonly ReferenceExpert[]) {
  const values = new Map<ResidentExpert, ReferenceExpert>()
  const entries = experts.map((expert) => {
    const resident = { table: expert.table, evicted: false } as unknown as ResidentExpert
    values.set(resident, expert)
    return { expert: resident, weight: 1, binding: bindExpert(expert.table, 'input', floats, sites) }
  })
  return { plan: planBypass(entries).get('model')!, values }
}

let created: number
let open: Set<object>
let variants: GraphVariants
beforeEach(() => {
  created = 0
  open = new Set()
  variants = new GraphVariants({
    graph,
    async create(_, bytes) {
      const { InferenceSession } = await loadOrt()
      const session = await InferenceSession.create(bytes, { executionProviders: ['wasm'] })
      created++
      const wrapped: OrtSession = {
        inputNames: session.inputNames,
        run: (feeds) => session.run(feeds as never),
        async release() {
          open.delete(wrapped)
          await session.release()
        },
      }
      open.add(wrapped)
      return wrapped
    },
  })
})

const plain: OrtSession = { inputNames: [], run: async () => ({}) }
const unused = () => false

async function prepared(...experts: ReferenceExpert[]): Promise<Slots[]> {
  const all = experts.map((expert) => planOf([expert]).plan.bypasses)
  for (const slots of all) await variants.prepare(plain, slots, unused)
  return all
}

/** Outputs of a set in the variant that is chosen for it. */
async function outputsOf(experts: readonly ReferenceExpert[]): Promise<Record<string, number[]>> {
  const { plan, values } = planOf(experts)
  const variant = variants.variantFor(plan.bypasses)
  const buffers = new BypassBuffers<CpuBuffer>(new ReferenceUnpacker(values), 0)
  const { feeds } = await buffers.fill(new Map([['model', { plan, inputs: variant.inputs }]]))
  const { Tensor } = await loadOrt()
  const own = Array.from(feeds.get('model')!, ([name, { dtype, dims, buffer }]) => {
    const count = dims.reduce((product, size) => product * size, 1)
    return [
      name,
      new Tensor(dtype as 'float32', buffer.data.subarray(0, count) as Float32Array, dims),
    ] as const
  })
  const outputs = await (await variants.session(plain, variant)).run({
    x: new Tensor('float32', x, [1, INPUTS]),
    ...Object.fromEntries(
      Array.from(weights, ([name, values]) => [
        `${name}.weight`,
        new Tensor('float32', values, [INPUTS, OUTPUTS]),
      ]),
    ),
    ...Object.fromEntries(own),
  })
  return Object.fromEntries(
    Object.entries(outputs).map(([name, output]) => [name, [...(output as { data: Float32Array }).data]]),
  )
}

test('sets of experts whose sessions were made ahead need no other one, and compute what theirs do', async () => {
  const [first, second, third] = await Promise.all([{ a: 2 }, { a: 1, b: 3 }, { c: 9 }].map(expertOf))
  const sets = [[first], [second], [third], [first, third], [first, second, third]]
  const wanted = []
  for (const set of sets) wanted.push(await outputsOf(set))
  await variants.release()

  await prepared(first, second, third)
  const made = created
  expect(variants.made).toBe(made)
  for (const [i, set] of sets.entries()) {
    const outputs = await outputsOf(set)
    for (const [name, values] of Object.entries(wanted[i]))
      for (const [at, value] of values.entries()) expect(outputs[name][at]).toBeCloseTo(value, 5)
  }
  expect(created).toBe(made)
  // Each alone, and all together: those for some of them are gone again.
  expect(open.size).toBe(4)
})

test('one expert runs without room for others, and a set that nobody foresaw gets a session of its own', async () => {
  const [first, second] = await Promise.all([{ a: 2 }, { b: 1 }].map(expertOf))
  const [slots] = await prepared(first)
  await prepared(second)
  expect(variants.variantFor(slots).slots.size).toBe(1)
  const { plan } = planOf([await expertOf({ a: 1, b: 1, c: 1 })])
  const before = created
  await variants.session(plain, variants.variantFor(plan.bypasses))
  expect(created).toBe(before + 1)
})

test('a session that a set runs in is not released with the next load', async () => {
  const [first, second, third] = await Promise.all([{ a: 2 }, { b: 1 }, { c: 1 }].map(expertOf))
  await prepared(first, second)
  const both = variants.variantFor(planOf([first, second]).plan.bypasses)
  const session = await variants.session(plain, both)
  await variants.prepare(plain, planOf([third]).plan.bypasses, (variant) => variant === both)
  expect(open.has(session)).toBe(true)
})

test('more experts than sessions are kept for run in the one that has room for all', async () => {
  const experts = await Promise.all(
    Array.from({ length: 7 }, (_, i) =>
      expertOf(Object.fromEntries(NAMES.filter((_, at) => (i + 1) & (1 << at)).map((name) => [name, 1]))),
    ),
  )
  await prepared(...experts, ...experts, ...experts)
  const made = created
  for (const expert of experts) await outputsOf([expert])
  await outputsOf(experts)
  expect(created).toBe(made)
  expect(open.size).toBeLessThanOrEqual(16)
})

test('ranks of sets are padded to few sizes', () => {
  const rank = (...ranks: number[]) => rankAt({ lowRank: ranks.map((rank) => ({ rank })) as never })
  expect([rank(1), rank(2), rank(2, 1), rank(4, 3), rank(8), rank(8, 1), rank(64, 2)]).toEqual([
    1, 2, 4, 8, 8, 16, 72,
  ])
})
