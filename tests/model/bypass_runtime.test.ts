import { create } from '@bufbuild/protobuf'
import { beforeEach, expect, test } from 'vitest'
import type { TritTable } from '../../src/format/index.ts'
import type { ResidentExpert } from '../../src/gpu/index.ts'
import type { BypassBuffers, BypassFeeds } from '../../src/model/bypass_buffers.ts'
import type { GraphPlan } from '../../src/model/bypass_plan.ts'
import { bindExpert } from '../../src/model/expert_bindings.ts'
import { ExpertRuntime } from '../../src/model/expert_runtime.ts'
import { BASE_SET } from '../../src/model/expert_set.ts'
import type { OrtSession } from '../../src/model/hoisted_session.ts'
import { SiteIndex } from '../../src/model/site_index.ts'
import { type BypassGraph, type BypassInput, OnnxGraph } from '../../src/onnx/index.ts'
import { serializeModel } from '../../src/onnx/proto/model.ts'
import {
  GraphProtoSchema,
  ModelProtoSchema,
  NodeProtoSchema,
  ValueInfoProtoSchema,
} from '../../src/onnx/proto/onnx_pb.ts'

/** y = x · W, with W [32, 8] as an input. */
const dims = [32, 8]
const named = (name: string) => create(ValueInfoProtoSchema, { name })
const model = create(ModelProtoSchema, {
  irVersion: 8n,
  graph: create(GraphProtoSchema, {
    name: 'g',
    node: [create(NodeProtoSchema, { name: 'n', opType: 'MatMul', input: ['x', 'W'], output: ['y'] })],
    input: [named('x'), named('W')],
    output: [named('y')],
  }),
})
const part = { tensor: 'w', offset: 0, rowStride: 1, colStride: 8 }
const graph: BypassGraph = {
  graph: new OnnxGraph('onnx/model.onnx', serializeModel(model)),
  inputs: [{ name: 'W', dtype: 'float32', dims, parts: [part] }],
  tensors: new Map([
    [
      'w',
      {
        name: 'w',
        shape: [8, 32],
        role: 'delta',
        target: 'w',
        codec: 'dense',
        dtype: 'f32',
        bytes: 1024,
        offset: 0,
      },
    ],
  ]),
}

function expertOf(name: string): ResidentExpert {
  const tensor = { name: 'w', shape: [8, 32], role: 'delta', target: 'w', codec: 'ternary', scale: 1 }
  const table = { kind: 'expert', method: 'full', tensors: [tensor] } as unknown as TritTable
  const expert = { rootHash: name, table, evicted: false, retain: () => expert, release: () => {} }
  return expert as unknown as ResidentExpert
}

let log: string[]
let open: Set<string>
let failing: boolean
let runtime: ExpertRuntime
let base: OrtSession
beforeEach(() => {
  log = []
  open = new Set()
  failing = false
  const session = (name: string, inputNames: string[]): OrtSession => ({
    inputNames,
    async run(feeds) {
      const codes = Object.entries(feeds as Record<string, { gpuBuffer: string }>).flatMap(
        ([input, { gpuBuffer }]) => (input.endsWith('codes0') ? [gpuBuffer] : []),
      )
      for (const code of codes) expect(open.has(code)).toBe(true)
      log.push([name, ...codes].join(' '))
      return {}
    },
  })
  base = session('plain', ['x', 'W'])
  const buffers = {
    bytes: 0,
    bytesOf: () => 0,
    async fill(
      plans: Map<string, { plan: GraphPlan; inputs: BypassInput[] }>,
    ): Promise<BypassFeeds<GPUBuffer>> {
      if (failing) throw new Error('no memory')
      const [[name, { plan, inputs }]] = plans
      const [site] = plan.sites.values()
      const id = site.side.map(([{ expert }]) => expert.rootHash).join('+')
      open.add(id)
      const feeds = inputs.map((input) => [input.name, { dtype: input.dtype, dims: [], buffer: id }] as const)
      return {
        feeds: new Map([[name, new Map(feeds)]]) as never,
        bytes: 1,
        destroy: () => open.delete(id),
      }
    },
  }
  runtime = new ExpertRuntime({
    weights: weights as never,
    switcher: {
      prepareSet: () => undefined,
      apply: async (set: readonly { expert: ResidentExpert }[]) => {
        log.push(`merge ${set.map(({ expert }) => expert.rootHash).join('+') || 'base'}`)
        return {}
      },
    } as never,
    bypass: {
      buffers: buffers as unknown as BypassBuffers,
      graphs: new Map([
        ['model', { graph, create: async (_: OrtSession, bytes: Uint8Array) => created(session, bytes) }],
      ]),
    },
  })
})

let sessions = 0
function created(session: (name: string, inputs: string[]) => OrtSession, bytes: Uint8Array): OrtSession {
  expect(bytes.length).toBeGreaterThan(graph.graph.bytes.length)
  sessions++
  return session('variant', [])
}

const weights = {
  feeds: () => [{ name: 'W', buffer: {}, dtype: 'float32', dims }],
  floatPlacementsOf: () => [{ input: 'W', dtype: 'float32' as const }],
  isQuantized: () => false,
}
const sites = new SiteIndex([['model', graph]])

function setOf(name: string, choice: 'side' | 'merge') {
  const expert = expertOf(name)
  return runtime.set([{ expert, weight: 1, binding: bindExpert(expert.table, choice, weights, sites) }])
}

test('calls with experts beside the weights take turns without a switch, each with its own feeds', async () => {
  sessions = 0
  const contexts = ['a', 'b'].map((name) => runtime.passContext(setOf(name, 'side')))
  const plain = runtime.passContext()
  const run = (context: (typeof contexts)[0]) =>
    runtime.sessions({ model: base }, context).model.run({ x: 1 })
  await Promise.all([run(contexts[0]), run(contexts[1]), run(plain), run(contexts[0]), run(contexts[1])])
  expect(log).toEqual(['variant a', 'variant b', 'plain', 'variant a', 'variant b'])
  // Both sets have room at the same place, so one session serves them.
  expect(sessions).toBe(1)
  expect(runtime.switches).toBe(0)
  contexts[0].end()
  await Promise.resolve()
  expect([...open]).toEqual(['b'])
  contexts[1].end()
  await Promise.resolve()
  expect(open.size).toBe(0)
})

test('a merged default goes on and off around a call that has its expert beside the weights', async () => {
  const { model: byDefault } = runtime.sessions({ model: base }, runtime.passContext())
  await runtime.activate(setOf('m', 'merge'))
  const own = runtime.passContext(setOf('a', 'side'))
  const { model: bySide } = runtime.sessions({ model: base }, own)
  await byDefault.run({ x: 1 })
  await bySide.run({ x: 1 })
  await byDefault.run({ x: 1 })
  expect(log).toEqual(['merge m', 'plain', 'merge base', 'variant a', 'merge m', 'plain'])
})

test('what is active beside the weights is let go when it is not the default any more', async () => {
  const { model } = runtime.sessions({ model: base }, runtime.passContext())
  await runtime.activate(setOf('a', 'side'))
  await runtime.activate(setOf('b', 'side'))
  await model.run({ x: 1 })
  expect(log).toEqual(['variant b'])
  expect([...open]).toEqual(['b'])
  await runtime.activate(BASE_SET)
  await model.run({ x: 1 })
  expect(log).toEqual(['variant b', 'plain'])
  expect(open.size).toBe(0)
  expect(runtime.switches).toBe(3)
})

test('an activation without room leaves what was active, and the next one can succeed', async () => {
  const { model } = runtime.sessions({ model: base }, runtime.passContext())
  const first = setOf('a', 'side')
  await runtime.activate(first)
  failing = true
  await expect(runtime.activate(setOf('b', 'side'))).rejects.toThrow('no memory')
  expect(runtime.current).toBe(first)
  failing = false
  await model.run({ x: 1 })
  await runtime.activate(setOf('b', 'side'))
  await model.run({ x: 1 })
  expect(log).toEqual(['variant a', 'variant b'])
})
