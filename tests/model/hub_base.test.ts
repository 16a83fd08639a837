/**
 * A base by its name on the hub: files that a redirect sends to another host, a graph whose data lies beside it, and experts that
 * were made on a copy of the weights rounded to 4 bits, as a GGUF has them.
 *
 * @module
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type FaultServer, startFaultServer } from '../../e2e/servers/fault_server.ts'
import { openFile } from '../../src/cli/file_source.ts'
import { openCheckpoint } from '../../src/compress/checkpoint.ts'
import { readFloats } from '../../src/compress/safetensors.ts'
import { fromHalf } from '../../src/format/float16.ts'
import { memorySpool, parseHead, SKETCH_VALUES, targetsOf } from '../../src/format/index.ts'
import { type BaseIdentity, checkBase } from '../../src/model/base_check.ts'
import { fetchGraph, modelTypeOf } from '../../src/model/graph_files.ts'
import { hoistModel, weightBytes, weightPieces, writeBaseWeights } from '../../src/onnx/index.ts'
import { folderUrl } from '../../src/source/model_folder.ts'
import { compressed, heavyTailed, type Values } from '../compress/checkpoints.ts'
import { tagThrownBy } from '../format/samples.ts'

const MODEL = join(import.meta.dirname, '../../../shared/onnx-zoo/llama-tiny')
const NAME = 'hf:HuggingFaceTB/SmolLM2-135M-Instruct'
/** As they lie on the hub, and as they are found here. */
const FILES = {
  'config.json': 'config.json',
  'onnx/model.onnx': 'onnx-genai/model.onnx',
  'onnx/model.onnx_data': 'onnx-genai/model.onnx_data',
}

let hub: FaultServer
let cdn: FaultServer
let folder: string
let checkpoint: Record<string, Values>

beforeAll(async () => {
  hub = await startFaultServer()
  cdn = await startFaultServer()
  for (const [path, local] of Object.entries(FILES)) {
    const bytes = await readFile(join(MODEL, local))
    cdn.files.set(`/blobs/${path}`, { bytes })
    hub.files.set(`/HuggingFaceTB/SmolLM2-135M-Instruct/resolve/main/${path}`, {
      bytes: new Uint8Array(),
      script: () => ({
        redirect: `${cdn.url}/blobs/${path}`,
        headers: { 'X-Linked-Etag': '"0123"', 'X-Linked-Size': String(bytes.length), 'X-Repo-Commit': 'abc' },
      }),
    })
  }
  folder = folderUrl(NAME, undefined, hub.url)
  const { tensors } = await openCheckpoint(await openFile(join(MODEL, 'model.safetensors')))
  checkpoint = {}
  for (const [name, tensor] of tensors)
    checkpoint[name] = { shape: tensor.shape, values: await readFloats(tensor) }
})
afterAll(() => Promise.all([hub.close(), cdn.close()]))

async function openBase() {
  const graph = await fetchGraph(folder, 'onnx/model.onnx')
  return hoistModel([graph], { modelType: await modelTypeOf(folder) })
}

/** What the weights that came over the network say of the base. */
async function identity(): Promise<BaseIdentity> {
  const spool = memorySpool()
  const head = await writeBaseWeights(await openBase(), spool, { base: {}, storage: 'f32' })
  const { table } = await parseHead(spool.join(head), 'the base')
  const sketch = Array.from(table.base.sketch!, fromHalf)
  return {
    name: NAME,
    dtype: 'f32',
    shapes: new Map(table.tensors.map(({ name, shape }) => [name, shape])),
    sketches: new Map(
      targetsOf(table.tensors).map((name, i) => [
        name,
        sketch.slice(i * SKETCH_VALUES, (i + 1) * SKETCH_VALUES),
      ]),
    ),
  }
}

/** Values as Q4_1 keeps them. */
function roundedToFourBits(values: Float32Array): Float32Array {
  return values.map((value, i) => {
    const block = values.subarray(i - (i % 32), i - (i % 32) + 32)
    const least = Math.min(...block)
    const step = (Math.max(...block) - least) / 15
    return least + Math.round((value - least) / step) * step
  })
}

async function expertOn(base: Record<string, Values>) {
  const matrices = Object.keys(base).filter((name) => name.includes('_proj'))
  const finetuned = { ...base }
  for (const [i, name] of matrices.entries()) {
    const delta = heavyTailed(base[name].values.length, i + 1)
    finetuned[name] = { ...base[name], values: delta.map((by, at) => by + base[name].values[at]) }
  }
  const { parsed } = await compressed(base, finetuned, { density: 0.05 })
  return parsed.table
}

test('config, graph and data come through the redirects, the data by ranges', async () => {
  expect(folder).toBe(`${hub.url}/HuggingFaceTB/SmolLM2-135M-Instruct/resolve/main/`)
  const model = await openBase()
  let bytes = 0
  for await (const piece of weightPieces(model)) bytes += piece.bytes.length
  expect(bytes).toBe(weightBytes(model))
  expect(hub.log.every(({ status }) => status >= 300 && status < 400)).toBe(true)
  const data = cdn.log.filter(({ path }) => path.endsWith('_data'))
  expect(data.some(({ range, status }) => range !== undefined && status === 206)).toBe(true)
})

test('an expert that was made on a copy rounded to 4 bits is known by its sketch, and a stranger is not', async () => {
  const rounded = Object.fromEntries(
    Object.entries(checkpoint).map(([name, own]) => [
      name,
      own.shape.length < 2 ? own : { ...own, values: roundedToFourBits(own.values as Float32Array) },
    ]),
  )
  const table = await expertOn(rounded)
  expect(table.base.dtype).toBe('q4')
  expect(table.base.fingerprint).toBeDefined()
  const base = await identity()
  expect(checkBase(table, 'skill.trit', base)).toBe('rounded')
  const shuffled = Object.fromEntries(
    Object.entries(rounded).map(([name, own]) => [
      name,
      { ...own, values: Float32Array.from(own.values).reverse() },
    ]),
  )
  const stranger = await expertOn(shuffled)
  expect(await tagThrownBy(() => checkBase(stranger, 'stranger.trit', base))).toBe('base')
})
