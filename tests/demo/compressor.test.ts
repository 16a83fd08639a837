/**
 * What the worker of "Bring your own" makes of what visitors bring for a small base, in Node: the same code, the base's files
 * read from a folder.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { plainGraph } from '../../e2e/support/plain_base.ts'
import { Compressor, type Made } from '../../src/demo/compressor.ts'
import { readHead } from '../../src/format/index.ts'
import { ReferenceWeights } from '../../src/reference/index.ts'
import { blobSource, memorySource } from '../../src/source/memory.ts'
import { safetensors, type Values } from '../compress/checkpoints.ts'
import { TINY_CHAT } from '../engine/chat_models.ts'
import { Random } from '../gpu/random.ts'
import { prepared } from '../onnx/graphs.ts'

const { out: FOLDER } = await prepared(TINY_CHAT)
const BASE = 'https://page.example/models/demo/'
const manifest = JSON.parse(readFileSync(join(FOLDER, 'tritswap.json'), 'utf8'))
const never = new AbortController().signal

let weights: ReferenceWeights
/** Two matrices of the base that a training moved. */
let trained: Map<string, Float32Array<ArrayBuffer>>
/** Files that are not as they are in the folder; undefined for 404. */
let served: Record<string, Uint8Array<ArrayBuffer> | undefined>

beforeAll(async () => {
  const file = readFileSync(join(FOLDER, 'weights.trit')) as Uint8Array
  weights = await ReferenceWeights.open(memorySource(file, 'base'))
  const random = new Random(11)
  const names = [...weights.tensors.keys()].filter((name) => /layers\.[01]\.mlp\.up_proj/.test(name))
  expect(names).toHaveLength(2)
  trained = new Map(
    names.map((name) => [
      name,
      weights.tensors.get(name)!.map((value) => value + 0.05 * (random.unit() - 0.5)),
    ]),
  )
})

beforeEach(() => {
  served = {}
  vi.stubGlobal('fetch', async (input: string | URL, init?: RequestInit) => {
    const path = String(input).slice(BASE.length)
    const bytes =
      path in served ? served[path] : (readFileSync(join(FOLDER, path)) as Uint8Array<ArrayBuffer>)
    if (bytes === undefined) return new Response('', { status: 404 })
    const [, from, to] = /bytes=(\d+)-(\d*)/.exec(new Headers(init?.headers).get('Range') ?? '') ?? []
    if (from === undefined) return new Response(bytes)
    const end = Math.min(bytes.length, to === '' ? bytes.length : Number(to) + 1)
    const headers = { 'Content-Range': `bytes ${from}-${end - 1}/${bytes.length}` }
    return new Response(bytes.subarray(Number(from), end), { status: 206, headers })
  })
})

afterEach(() => vi.unstubAllGlobals())

const file = (name: string, content: Uint8Array<ArrayBuffer> | object) =>
  new File([content instanceof Uint8Array ? content : JSON.stringify(content)], name)

/** All tensors of a fine-tuning, in one dtype. */
function finetuned(dtype: Values['dtype']): Record<string, Values> {
  return Object.fromEntries(
    [...weights.tensors].map(([name, own]) => [
      name,
      { shape: weights.shapeOf(name), values: trained.get(name) ?? own, dtype },
    ]),
  )
}

async function make(files: File[]): Promise<{ notes: string[]; made: Made }> {
  const compressor = new Compressor()
  const { notes, keep } = await compressor.open('poet', files, BASE, never)
  const [made] = await compressor.compress(keep, [1], 'poet', never, () => {})
  return { notes, made: made! }
}

/** What is in a file beside the head, and what the head says. */
async function contentOf({ file }: Made) {
  const { table, headBytes } = await readHead(blobSource(file, 'made'))
  return { table, payload: Buffer.from(await file.slice(headBytes).arrayBuffer()) }
}

test('a checkpoint in BF16: what was only rounded is left out, and the rest knows its base', async () => {
  const { made } = await make([file('poet.safetensors', safetensors(finetuned('BF16')))])
  const { table } = await contentOf(made)
  expect(table.tensors.map(({ name }) => name).sort()).toEqual([...trained.keys()].sort())
  expect(table).toMatchObject({ method: 'full', base: { fingerprint: manifest.fingerprint } })
  expect(table.base.sketch).toHaveLength(8 * trained.size)
})

test('shards make what one file makes; one that is missing is named', async () => {
  const all = Object.entries(finetuned('F32'))
  const half = Math.floor(all.length / 2)
  const shards = [all.slice(0, half), all.slice(half)].map((part, index) => ({
    name: `model-0000${index + 1}-of-00002.safetensors`,
    names: part.map(([name]) => name),
    bytes: safetensors(Object.fromEntries(part)),
  }))
  const index = {
    metadata: {},
    weight_map: Object.fromEntries(
      shards.flatMap(({ name, names }) => names.map((tensor) => [tensor, name])),
    ),
  }
  const files = [
    file('model.safetensors.index.json', index),
    ...shards.map(({ name, bytes }) => file(name, bytes)),
  ]
  const whole = await make([file('poet.safetensors', safetensors(Object.fromEntries(all)))])
  const sharded = await make(files)
  const [expected, found] = [await contentOf(whole.made), await contentOf(sharded.made)]
  expect(Buffer.compare(found.payload, expected.payload)).toBe(0)
  expect(found.table.tensors).toEqual(expected.table.tensors)
  await expect(make(files.slice(0, 2))).rejects.toThrow(/model-00002-of-00002\.safetensors/)
})

test('an (IA)³ adapter', async () => {
  const [target] = trained.keys()
  const module = target!.replace(/\.weight$/, '')
  const [out] = weights.shapeOf(target!)
  const config = { peft_type: 'IA3', target_modules: ['up_proj'], feedforward_modules: [] }
  const scales = Float32Array.from({ length: out! }, (_, i) => 1 + (i % 7) / 50)
  const adapter = safetensors({ [`base_model.model.${module}.ia3_l`]: { shape: [out!, 1], values: scales } })
  const { made } = await make([
    file('adapter_config.json', config),
    file('adapter_model.safetensors', adapter),
  ])
  const { table } = await contentOf(made)
  expect(table).toMatchObject({ method: 'ia3', base: { fingerprint: manifest.fingerprint } })
  expect(table.tensors.map(({ target }) => target)).toEqual([target])
  expect(table.base.sketch).toHaveLength(8)
})

test('a base that nobody prepared gives the same expert, read from its graph', async () => {
  const files = [file('poet.safetensors', safetensors(finetuned('F32')))]
  const prepared = await contentOf((await make(files)).made)
  served = { 'tritswap.json': undefined, 'onnx/model.onnx': await plainGraph(FOLDER) }
  const plain = await contentOf((await make(files)).made)
  expect(plain.table.tensors.map(({ name }) => name)).toEqual(prepared.table.tensors.map(({ name }) => name))
  expect(Buffer.compare(plain.payload, prepared.payload)).toBe(0)
})

test('a base of 4 bits takes adapters; fine-tunings are refused, and what to load instead is said', async () => {
  served = {
    'tritswap.json': Buffer.from(JSON.stringify({ ...manifest, dtype: 'q4' })) as Uint8Array<ArrayBuffer>,
  }
  await expect(make([file('poet.safetensors', safetensors(finetuned('F32')))])).rejects.toMatchObject({
    tag: 'unsupported',
    message: expect.stringMatching(/is quantized.*load its fp16 or fp32 weights/),
  })
  const [target] = trained.keys()
  const [out, into] = weights.shapeOf(target!)
  const name = `base_model.model.${target!.replace(/\.weight$/, '')}`
  const ones = (count: number) => Float32Array.from({ length: count }, (_, i) => ((i % 5) - 2) / 100)
  const factors = {
    [`${name}.lora_A.weight`]: { shape: [2, into!], values: ones(2 * into!) },
    [`${name}.lora_B.weight`]: { shape: [out!, 2], values: ones(2 * out!) },
  }
  const { made } = await make([
    file('adapter_config.json', { peft_type: 'LORA', r: 2, lora_alpha: 4, target_modules: ['up_proj'] }),
    file('adapter_model.safetensors', safetensors(factors)),
  ])
  const { table } = await contentOf(made)
  expect(table.method).toBe('lora')
  // As the command line makes it.
  expect(table.tensors.map(({ codec }) => codec)).toEqual(['terms'])
})
