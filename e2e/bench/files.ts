/**
 * The files that a run serves: the base and its experts as they are, copies of an expert that no cache has seen, and
 * what the alternatives need, made from the same weights.
 *
 * @module
 */
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join, relative } from 'node:path'
import { gzipSync } from 'node:zlib'
import { create } from '@bufbuild/protobuf'
import { openFolder } from '../../src/cli/file_source.ts'
import { decodeTensor } from '../../src/compress/decode.ts'
import { compressAdapter } from '../../src/compress/index.ts'
import { readFloats, readSafetensors } from '../../src/compress/safetensors.ts'
import {
  decodeDense,
  type HoistedInput,
  memorySpool,
  readHead,
  readSection,
  type TritHead,
  TritWriter,
  tilingOf,
  toHalf,
  weightsOf,
} from '../../src/format/index.ts'
import { parseModel, serializeModel } from '../../src/onnx/proto/model.ts'
import {
  type GraphProto,
  NodeProtoSchema,
  TensorProto_DataType,
  TensorProtoSchema,
  TensorShapeProto_DimensionSchema,
  TensorShapeProtoSchema,
  TypeProto_TensorSchema,
  TypeProtoSchema,
  ValueInfoProtoSchema,
} from '../../src/onnx/proto/onnx_pb.ts'
import { memorySource } from '../../src/source/memory.ts'
import type { ByteSource } from '../../src/source/source.ts'
import { openingFiles } from './opening_files.ts'
import { type BenchOptions, expertName } from './options.ts'
import type { BenchExpert, DeltaPart, LoraFactor, OpeningFiles, PeerFiles } from './protocol.ts'

const ROOT = new URL('../..', import.meta.url).pathname
const LORA_RANK = 8
/** A and B are of this density where there are experts of it. */
const USUAL_DENSITY = 0.05

/** By path on the server, which starts with a slash. */
export type Files = Map<string, Uint8Array>

export interface PreparedFiles {
  files: Files
  dtype: 'fp32' | 'fp16'
  experts: BenchExpert[]
  copies: BenchExpert[]
  peers: PeerFiles
  opening: OpeningFiles
  /** Weights of expert A's targets. */
  patchedWeights: number
  /** Weights of the base. */
  baseWeights: number
  prompt: string
}

interface OpenExpert {
  path: string
  bytes: Uint8Array<ArrayBuffer>
  source: ByteSource
  head: TritHead
}

/** A base in VRAM's layout: one array for each graph input. */
type InputValues = Map<string, Float32Array<ArrayBuffer>>

/** @param copies - files of expert A that differ in their label only */
export async function prepareFiles(options: BenchOptions, copies: number): Promise<PreparedFiles> {
  const files: Files = new Map()
  const folder = preparedFolder(options.model)
  for (const path of walk(folder)) files.set(`/model/${relative(folder, path)}`, readFileSync(path))
  const manifest = JSON.parse(readFileSync(join(folder, 'tritswap.json'), 'utf8')) as {
    weights: { file: string }
    graphs: string[]
    dtype: 'fp32' | 'fp16'
  }
  if (manifest.dtype !== 'fp32' && manifest.dtype !== 'fp16') {
    throw new Error(
      `Cannot compare with a base of dtype ${manifest.dtype}: the alternatives need float weights`,
    )
  }
  const weights = memorySource(bytesOf(join(folder, manifest.weights.file)), 'the base')
  const base = await readHead(weights)
  const graph = base.table.bindings?.graphs.find(({ file }) => file === manifest.graphs[0])
  if (graph === undefined) throw new Error(`${folder} has no bindings for ${manifest.graphs[0]}`)

  const opened = await Promise.all(options.experts.map(openExpert))
  // First the two full fine-tunings that are nearest to the usual density, in the order given.
  const isFull = ({ head }: OpenExpert) => head.table.tensors.every(({ role }) => role === 'delta')
  const distance = ({ head }: OpenExpert) => Math.abs((head.table.compression.density ?? 1) - USUAL_DENSITY)
  opened.sort((x, y) => Number(isFull(y)) - Number(isFull(x)) || distance(x) - distance(y))
  const full = opened.filter(isFull).length
  if (full < 2)
    throw new Error(
      `--experts: expected two or more full fine-tunings, which the alternatives are made from, found ${full}`,
    )
  for (const { path, bytes } of opened) files.set(`/experts/${expertName(path)}.trit`, bytes)
  const experts = opened.map(({ path, bytes, head }) => ({
    id: expertName(path),
    url: `/experts/${expertName(path)}.trit`,
    bytes: bytes.length,
    rootHash: head.rootHash,
    density: head.table.compression.density ?? Number.NaN,
  }))
  const [a, b] = opened

  const copied: BenchExpert[] = []
  for (let i = 0; i < copies; i++) {
    const bytes = await relabelled(a, `copy ${i}`)
    const { rootHash } = await readHead(memorySource(bytes))
    const url = `/copies/${i}.trit`
    files.set(url, bytes)
    copied.push({ ...experts[0], id: `copy ${i}`, url, bytes: bytes.length, rootHash })
  }

  const peers = await makePeers(files, { options, folder, manifest, weights, base, graph, a, b })
  const prompt = a.head.table.prompt ?? 'It was a'
  const opening = await openingFiles(files, { prompt, rank: LORA_RANK, tuned: a })
  const targets = new Set(a.head.table.tensors.map(({ target }) => target))
  const shapes = base.table.tensors.filter(({ target }) => targets.has(target))
  return {
    files,
    dtype: manifest.dtype,
    experts,
    copies: copied,
    peers,
    opening,
    patchedWeights: shapes.reduce((sum, { shape }) => sum + weightsOf(shape), 0),
    baseWeights: base.table.tensors.reduce((sum, { shape }) => sum + weightsOf(shape), 0),
    prompt,
  }
}

/** The folder as it is if it is prepared, else what `tritswap prepare` makes of it. */
function preparedFolder(model: string): string {
  if (existsSync(join(model, 'tritswap.json'))) return model
  const out = join(ROOT, '.cache/bench/model')
  rmSync(out, { recursive: true, force: true })
  const node = (script: string, ...args: string[]) =>
    execFileSync(process.execPath, [join(ROOT, script), ...args], { stdio: ['ignore', 'ignore', 'inherit'] })
  node('node_modules/vite/bin/vite.js', 'build', '--config', join(ROOT, 'vite.cli.config.ts'))
  node('dist/cli.js', 'prepare', model, '--out', out)
  return out
}

function* walk(folder: string): Generator<string> {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) yield* walk(path)
    else yield path
  }
}

/** Not a Buffer of Node's pool, whose offset is any. */
function bytesOf(path: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(readFileSync(path))
}

async function openExpert(path: string): Promise<OpenExpert> {
  const bytes = bytesOf(path)
  const source = memorySource(bytes, path)
  return { path, bytes, source, head: await readHead(source) }
}

async function relabelled({ source, head }: OpenExpert, label: string): Promise<Uint8Array<ArrayBuffer>> {
  const spool = memorySpool()
  const writer = new TritWriter(spool, { chunkLog2: Math.log2(head.chunkBytes) })
  for (const tensor of head.table.tensors) await writer.add(tensor, await readSection(source, head, tensor))
  const { tensors: _, ...table } = head.table
  return spool.join(await writer.finish({ ...table, label }))
}

interface PeerSources {
  options: BenchOptions
  folder: string
  manifest: { graphs: string[]; dtype: 'fp32' | 'fp16' }
  weights: ByteSource
  base: TritHead
  graph: { inputs: readonly HoistedInput[] }
  a: OpenExpert
  b: OpenExpert
}

async function makePeers(files: Files, sources: PeerSources): Promise<PeerFiles> {
  const { options, folder, manifest, weights, base, graph, a, b } = sources
  const { inputs } = graph
  const values = await checkpointValues(weights, base)
  const shapes = new Map(base.table.tensors.map(({ name, shape }) => [name, shape]))
  const plain = laidOut(inputs, shapes, values)
  const checkpoints = [a, b].map(({ path }) => finetunedPath(options.checkpoints, path))
  const real = checkpoints.every((path) => path !== undefined)
  const deltas: InputValues[] = []
  for (const [i, expert] of [a, b].entries()) {
    deltas.push(
      laidOut(
        inputs,
        shapes,
        real ? await finetunedDelta(checkpoints[i]!, values, expert) : await decodedDelta(expert),
      ),
    )
  }
  // What the experts change, by graph input.
  const targets = new Set([a, b].flatMap(({ head }) => head.table.tensors.map(({ target }) => target)))
  const patched = inputs.filter(({ parts }) =>
    parts.some(({ tensor }) => targets.has(base.table.tensors.find(({ name }) => name === tensor)!.target)),
  )

  const small = [...walk(folder)].filter((path) => path.endsWith('.json') && !path.endsWith('tritswap.json'))
  const putModel = (name: string, file: string, graphBytes: Uint8Array) => {
    for (const path of small) files.set(`/peers/${name}/${relative(folder, path)}`, readFileSync(path))
    files.set(`/peers/${name}/${file}`, graphBytes)
  }
  const hoisted = readFileSync(join(folder, manifest.graphs[0]))
  putModel('base', manifest.graphs[0], withWeights(hoisted, inputs, plain))
  for (const [i, delta] of deltas.entries()) {
    const tuned: InputValues = new Map(plain)
    for (const { name } of patched) {
      const own = delta.get(name)!
      tuned.set(
        name,
        plain.get(name)!.map((value, at) => value + own[at]),
      )
    }
    putModel(`full-${i}`, manifest.graphs[0], withWeights(hoisted, inputs, tuned))
  }

  let offset = 0
  const deltaParts: DeltaPart[] = patched.map(({ name, dims }) => {
    const elements = weightsOf(dims)
    offset += Math.ceil(elements / 4) * 4
    return { input: name, elements, offset: offset - Math.ceil(elements / 4) * 4 }
  })
  const deltaElements = offset
  for (const [i, delta] of deltas.entries()) {
    const half = new Uint16Array(deltaElements)
    for (const { input, offset: at } of deltaParts) {
      for (const [j, value] of delta.get(input)!.entries()) half[at + j] = toHalf(value)
    }
    files.set(`/peers/delta-${i}.f16`, new Uint8Array(half.buffer))
  }
  const int8 = new Int8Array(deltaElements)
  const int8Scales = deltaParts.map(({ input, offset: at }) => {
    const delta = deltas[0].get(input)!
    const scale = delta.reduce((most, value) => Math.max(most, Math.abs(value)), 0) / 127 || 1
    for (const [j, value] of delta.entries()) int8[at + j] = Math.round(value / scale)
    return scale
  })
  const zipped = gzipSync(int8)
  files.set('/peers/delta-0.int8.gz', zipped)

  const lora = withLora(withWeights(hoisted, inputs, plain), patched, manifest.dtype)
  putModel('lora', manifest.graphs[0], lora.bytes)
  for (const seed of [0, 1]) files.set(`/peers/lora-${seed}.f16`, loraWeights(lora.factors, seed))

  const quantized = await quantizedPeer(files, options.checkpoints, putModel, a)
  const size = (path: string) => files.get(path)!.length
  return {
    origin: real ? 'fine-tuned' : 'decoded',
    root: '/peers/',
    base: 'base',
    full: ['full-0', 'full-1'],
    fullBytes: size(`/peers/full-0/${manifest.graphs[0]}`),
    deltas: ['/peers/delta-0.f16', '/peers/delta-1.f16'],
    deltaBytes: size('/peers/delta-0.f16'),
    deltaParts,
    int8: '/peers/delta-0.int8.gz',
    int8Bytes: zipped.length,
    int8Scales,
    lora: 'lora',
    loraFactors: lora.factors,
    loraWeights: ['/peers/lora-0.f16', '/peers/lora-1.f16'],
    loraBytes: size('/peers/lora-0.f16'),
    quantized,
  }
}

/** The base in 4 bits, and a LoRA adapter of it as an expert. */
async function quantizedPeer(
  files: Files,
  checkpoints: string | undefined,
  putModel: (name: string, file: string, graph: Uint8Array) => void,
  a: OpenExpert,
): Promise<PeerFiles['quantized']> {
  if (checkpoints === undefined) return undefined
  const graph = join(checkpoints, 'base/onnx/model_q4.onnx')
  const adapters = join(checkpoints, 'lora')
  const [adapter] = existsSync(adapters) ? readdirSync(adapters).sort() : []
  if (!existsSync(graph) || adapter === undefined) return undefined
  putModel('q4', 'onnx/model_q4.onnx', readFileSync(graph))
  const source = openFolder(join(adapters, adapter))
  for (const [name, options] of Object.entries({ lora: { density: 0.2 }, terms: { terms: 2 } }))
    files.set(`/experts/${name}.trit`, (await compressAdapter({ adapter: source, options })).file)
  const matrices = a.head.table.tensors.filter(({ shape }) => shape.length === 2)
  return {
    folder: 'q4',
    lora: '/experts/lora.trit',
    terms: '/experts/terms.trit',
    matrixWeights: matrices.reduce((sum, { shape }) => sum + weightsOf(shape), 0),
  }
}

/** The checkpoint that an expert was made from: `bard-distilled-0.05` comes from `bard`. */
function finetunedPath(checkpoints: string | undefined, expert: string): string | undefined {
  if (checkpoints === undefined) return undefined
  const [name] = expertName(expert).split('-')
  const path = join(checkpoints, 'finetuned', name, 'model.safetensors')
  return existsSync(path) ? path : undefined
}

/** Tensors of the base as its checkpoint has them. */
async function checkpointValues(source: ByteSource, head: TritHead): Promise<InputValues> {
  const values: InputValues = new Map()
  for (const tensor of head.table.tensors) {
    if (tensor.codec !== 'dense')
      throw new Error(`Cannot compare with a base whose ${tensor.name} is quantized`)
    const section = await readSection(source, head, tensor)
    values.set(tensor.name, new Float32Array(decodeDense(section, weightsOf(tensor.shape), tensor.dtype)))
  }
  return values
}

async function finetunedDelta(path: string, base: InputValues, expert: OpenExpert): Promise<InputValues> {
  const { tensors } = await readSafetensors(memorySource(bytesOf(path), path))
  const targets = new Set(expert.head.table.tensors.map(({ target }) => target))
  const deltas: InputValues = new Map()
  for (const tensor of tensors) {
    const own = base.get(tensor.name)
    if (own === undefined || !targets.has(tensor.name)) continue
    const tuned = await readFloats(tensor)
    deltas.set(
      tensor.name,
      tuned.map((value, i) => value - own[i]),
    )
  }
  return deltas
}

async function decodedDelta({ source, head }: OpenExpert): Promise<InputValues> {
  const deltas: InputValues = new Map()
  for (const tensor of head.table.tensors) {
    deltas.set(tensor.target, await decodeTensor(source, head, tensor))
  }
  return deltas
}

/** Values by checkpoint tensor, put where each graph input has them. */
function laidOut(
  inputs: readonly HoistedInput[],
  shapes: ReadonlyMap<string, readonly number[]>,
  values: InputValues,
): InputValues {
  return new Map(
    inputs.map(({ name, dims, parts }) => {
      const all = new Float32Array(weightsOf(dims))
      for (const { tensor, offset, rowStride, colStride } of parts) {
        const own = values.get(tensor)
        if (own === undefined) continue
        const { cols } = tilingOf(shapes.get(tensor)!)
        for (let i = 0; i < own.length; i++)
          all[offset + Math.floor(i / cols) * rowStride + (i % cols) * colStride] = own[i]
      }
      return [name, all]
    }),
  )
}

function floats(values: Float32Array<ArrayBuffer>, dtype: HoistedInput['dtype']): Uint8Array<ArrayBuffer> {
  return new Uint8Array(dtype === 'float32' ? values.buffer : Uint16Array.from(values, toHalf).buffer)
}

/** The plain model again: the hoisted graph with its weights as initializers. */
function withWeights(
  hoisted: Uint8Array,
  inputs: readonly HoistedInput[],
  values: InputValues,
): Uint8Array<ArrayBuffer> {
  const model = parseModel(hoisted, 'the hoisted graph')
  const graph = model.graph as GraphProto
  const byName = new Map(inputs.map((input) => [input.name, input]))
  for (const { name } of graph.input) {
    const input = byName.get(name)
    if (input === undefined) continue
    graph.initializer.push(
      create(TensorProtoSchema, {
        name,
        dims: input.dims.map(BigInt),
        dataType: input.dtype === 'float32' ? TensorProto_DataType.FLOAT : TensorProto_DataType.FLOAT16,
        rawData: floats(values.get(name)!, input.dtype),
      }),
    )
  }
  graph.input = graph.input.filter(({ name }) => !byName.has(name))
  return serializeModel(model)
}

/** The plain graph with y = x·W + (x·A)·B beside every patched MatMul; A and B are inputs of any rank. */
function withLora(
  plain: Uint8Array,
  patched: readonly HoistedInput[],
  dtype: 'fp32' | 'fp16',
): { bytes: Uint8Array<ArrayBuffer>; factors: LoraFactor[] } {
  const model = parseModel(plain, 'the plain graph')
  const graph = model.graph as GraphProto
  const matrices = new Map(
    patched.filter(({ dims }) => dims.length === 2).map((input) => [input.name, input]),
  )
  const factors: LoraFactor[] = []
  let offset = 0
  const addFactor = (input: string, rows: number, cols: number, dims: (number | string)[]) => {
    factors.push({ input, dims: [rows, cols], offset })
    offset += rows * cols
    graph.input.push(inputOf(input, dims, dtype))
  }
  const nodes = []
  for (const node of graph.node) {
    nodes.push(node)
    const weight = node.opType === 'MatMul' ? matrices.get(node.input[1]) : undefined
    if (weight === undefined) continue
    const [x, [y]] = [node.input[0], node.output]
    const name = weight.name
    addFactor(`${name}.lora_A`, weight.dims[0], LORA_RANK, [weight.dims[0], 'rank'])
    addFactor(`${name}.lora_B`, LORA_RANK, weight.dims[1], ['rank', weight.dims[1]])
    node.output[0] = `${y}::base`
    const add = (opType: string, suffix: string, input: string[], output: string) =>
      nodes.push(create(NodeProtoSchema, { opType, name: `${node.name}/${suffix}`, input, output: [output] }))
    add('MatMul', 'lora_A', [x, `${name}.lora_A`], `${y}::A`)
    add('MatMul', 'lora_B', [`${y}::A`, `${name}.lora_B`], `${y}::AB`)
    add('Add', 'lora', [`${y}::base`, `${y}::AB`], y)
  }
  graph.node = nodes
  return { bytes: serializeModel(model), factors }
}

function inputOf(name: string, dims: readonly (number | string)[], dtype: 'fp32' | 'fp16') {
  const shape = create(TensorShapeProtoSchema, {
    dim: dims.map((size) =>
      create(TensorShapeProto_DimensionSchema, {
        value:
          typeof size === 'number'
            ? { case: 'dimValue', value: BigInt(size) }
            : { case: 'dimParam', value: size },
      }),
    ),
  })
  const elemType = dtype === 'fp32' ? TensorProto_DataType.FLOAT : TensorProto_DataType.FLOAT16
  const value = create(TypeProto_TensorSchema, { elemType, shape })
  return create(ValueInfoProtoSchema, {
    name,
    type: create(TypeProtoSchema, { value: { case: 'tensorType', value } }),
  })
}

/** Random factors of an adapter: their bytes and their speed are those of a trained one. */
function loraWeights(factors: readonly LoraFactor[], seed: number): Uint8Array {
  const last = factors.at(-1)
  const half = new Uint16Array(last === undefined ? 0 : last.offset + last.dims[0] * last.dims[1])
  let state = seed + 1
  for (let i = 0; i < half.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    half[i] = toHalf((state / 2 ** 32 - 0.5) / 8)
  }
  return new Uint8Array(half.buffer)
}
