import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test, vi } from 'vitest'
import { GraphVariants } from '../../src/model/graph_variants.ts'
import { SiteIndex } from '../../src/model/site_index.ts'
import {
  addBypass,
  bindingsOf,
  externalFilesOf,
  hoistModel,
  integersOf,
  OnnxGraph,
  sitesOf,
  unusedIn,
  weightTable,
} from '../../src/onnx/index.ts'
import { parseModel, serializeModel } from '../../src/onnx/proto/model.ts'
import { ZOO } from './graphs.ts'
import { noFiles } from './models.ts'

vi.mock('../../src/onnx/proto/model.ts', { spy: true })

test('opening an unprepared model parses the file once, and the rewritten graph once', async () => {
  const file = 'onnx/model_quantized.onnx'
  const source = new OnnxGraph(file, new Uint8Array(await readFile(join(ZOO, 'bert-tiny-classify', file))))
  const model = await hoistModel([{ graph: source, external: noFiles }])
  // Sizes: comparing the bytes one by one takes seconds.
  const parsed = () => vi.mocked(parseModel).mock.calls.map(([bytes]) => bytes.length)
  expect(parsed()).toEqual([source.bytes.length])

  // What follows is all that the engine asks of the graph: see ExpertHost.create.
  const [{ graph }] = model.graphs
  const [{ inputs }] = bindingsOf(model).graphs
  const tensors = new Map(weightTable(model).tensors.map((tensor) => [tensor.name, tensor]))
  expect(externalFilesOf(graph)).toEqual([])
  expect(integersOf(graph).length).toBeGreaterThan(0)
  expect(unusedIn([graph])('bert.pooler.dense.weight')).toBe(false)
  const hoisted = { graph, inputs, tensors }
  new SiteIndex([['model', hoisted]])
  const sites = sitesOf(hoisted)
  const session = { inputNames: [], run: async () => ({}) }
  const variants = new GraphVariants({ graph: hoisted, create: async () => session })
  for (const { key } of sites)
    await variants.session(session, variants.variantFor(new Map([[key, { lowRank: true }]])))
  expect(parsed()).toEqual([source.bytes.length, graph.bytes.length])
})

test('a variant leaves the graph that it is a copy of as it was', async () => {
  const file = 'onnx/decoder_model_merged.onnx'
  const source = new OnnxGraph(file, new Uint8Array(await readFile(join(ZOO, 't5-tiny', file))))
  const model = await hoistModel([{ graph: source, external: noFiles }])
  const [{ graph }] = model.graphs
  const [{ inputs }] = bindingsOf(model).graphs
  const tensors = new Map(weightTable(model).tensors.map((tensor) => [tensor.name, tensor]))
  const hoisted = { graph, inputs, tensors }
  const all = { side: 1, lowRank: true, delta: true, outputScale: true, inputScale: true, bias: true }
  const bypasses = new Map(
    sitesOf(hoisted).map(({ key, kind }) => [key, kind === 'linear' ? all : { delta: true }]),
  )
  const first = addBypass(hoisted, bypasses)
  const second = addBypass(hoisted, bypasses)
  expect(second.inputs).toEqual(first.inputs)
  expect(Buffer.compare(second.bytes, first.bytes)).toBe(0)
  expect(Buffer.compare(serializeModel(graph.model), graph.bytes)).toBe(0)
  const untouched = serializeModel(new OnnxGraph(file, source.bytes).model)
  expect(Buffer.compare(serializeModel(source.model), untouched)).toBe(0)
})
