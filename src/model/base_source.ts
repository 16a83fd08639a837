/**
 * Model folders on the web and how their weights get into VRAM, prepared or as they lie there.
 *
 * @module
 */
import { isTritswapError, TritswapError } from '../errors.ts'
import type { IncomingFile } from '../fetcher/receive.ts'
import { type BaseBindings, bindingsFrom, type TritTable, type WeightDtype } from '../format/index.ts'
import { type Gpu, WeightStore } from '../gpu/index.ts'
import {
  DTYPE_SUFFIX,
  type HoistedGraphFile,
  type HoistedModel,
  hoistModel,
  isModelDtype,
  type QuantizedChoice,
  weightBytes,
  weightPieces,
  weightTable,
} from '../onnx/index.ts'
import { httpSource, type Meter } from '../source/http.ts'
import { memorySource } from '../source/memory.ts'
import { fileWithCopy, type UseOfCopies } from '../source/offline_copy.ts'
import { withRetry } from '../source/retry.ts'
import type { ByteSource } from '../source/source.ts'
import type { FilledBase } from './expert_host.ts'

/** Where transformers.js looks for graphs. */
export const GRAPH_FOLDER = 'onnx'
/** Weight bytes that may be on the queue: bounds what the browser copies aside. */
const MAX_BYTES_IN_FLIGHT = 32 << 20

/** Path of a graph in its folder, as transformers.js builds it. @throws {TritswapError} `input` for an unknown dtype */
export function graphPath(module: string, dtype: string, subfolder = GRAPH_FOLDER): string {
  if (!isModelDtype(dtype)) {
    throw new TritswapError(
      'input',
      `Cannot find graphs of dtype ${dtype}: expected one of ${Object.keys(DTYPE_SUFFIX).join(', ')}`,
      { fields: { dtype } },
    )
  }
  const file = `${module}${DTYPE_SUFFIX[dtype]}.onnx`
  return subfolder === '' ? file : `${subfolder}/${file}`
}

/** The file that transformers.js makes a session from: an encoder is its session `model` where a decoder is beside it. */
export function moduleOf(session: string, all: readonly string[]): string {
  return session === 'model' && all.includes('decoder_model_merged') ? 'encoder_model' : session
}

/** A graph of an unprepared model. */
export interface GraphSource {
  /** Path in the model folder. */
  file: string
  bytes: Uint8Array
  /** Data files beside it, by the names that it calls them. */
  external: (location: string) => ByteSource
}

/** Bytes so far, of those known of. */
export type BytesReport = (loaded: number, total: number | undefined) => void

/**
 * Fetches a graph whole; what it keeps in files beside it is fetched when it is needed.
 * @param options.copies - keep a copy, and when to take it; none by default
 * @throws {TritswapError} `network`, with `fields.status` 404 where there is none
 */
export async function fetchGraph(
  folder: string,
  file: string,
  { signal, onBytes, copies }: { signal?: AbortSignal; onBytes?: BytesReport; copies?: UseOfCopies } = {},
): Promise<GraphSource> {
  const url = new URL(file, folder).href
  const bytes = await (copies ? keptWhole(url, copies, signal) : fetchWhole(url, { signal, onBytes }))
  return { file, bytes, external: externalFiles(url) }
}

/** Data files beside the graph at `url`: one source for each. */
export function externalFiles(url: string): (location: string) => ByteSource {
  const sources = new Map<string, ByteSource>()
  return (location) => {
    const known = sources.get(location)
    if (known !== undefined) return known
    const source = seekableSource(new URL(location, url).href, location)
    sources.set(location, source)
    return source
  }
}

/**
 * A remote file for reads here and there. Where the server ignores Range, one request brings all of it and the rest
 * is served from memory.
 */
function seekableSource(url: string, name: string): ByteSource {
  const remote = withRetry(httpSource(url))
  let whole: Promise<ByteSource> | undefined
  return {
    name,
    size: (options) => remote.size(options),
    async read(offset, length, options) {
      if (whole === undefined) {
        const bytes = await remote.read(offset, length, options)
        if (remote.seekable !== false) return bytes
        whole ??= fetchWhole(url, options).then((all) => memorySource(all, name))
        whole.catch(() => {
          whole = undefined
        })
      }
      return (await whole).read(offset, length, options)
    },
    async *stream(offset, options) {
      yield* remote.stream!(offset, options)
    },
    get seekable() {
      return remote.seekable
    },
  }
}

async function fetchWhole(
  url: string,
  { signal, onBytes }: { signal?: AbortSignal; onBytes?: BytesReport } = {},
): Promise<Uint8Array<ArrayBuffer>> {
  const meter: Meter = { requests: 0, bytes: 0 }
  const source = withRetry(httpSource(url, { meter }))
  let bytes: Uint8Array<ArrayBuffer> | undefined
  let length = 0
  for await (const piece of source.stream!(0, { signal })) {
    const total = await source.size()
    bytes ??= new Uint8Array(total ?? piece.length)
    if (length + piece.length > bytes.length) {
      const larger = new Uint8Array(Math.max(length + piece.length, 2 * bytes.length))
      larger.set(bytes.subarray(0, length))
      bytes = larger
    }
    bytes.set(piece, length)
    length += piece.length
    onBytes?.(length, total)
  }
  return (bytes ?? new Uint8Array()).subarray(0, length)
}

async function keptWhole(
  url: string,
  copies: UseOfCopies,
  signal?: AbortSignal,
): Promise<Uint8Array<ArrayBuffer>> {
  const get = async () => new Response(await fetchWhole(url, { signal }))
  return new Uint8Array(await (await fileWithCopy(url, copies, get)).arrayBuffer())
}

/** `model_type` of the configuration of a model folder; undefined where there is none. */
export async function modelTypeOf(
  folder: string,
  signal?: AbortSignal,
  copies?: UseOfCopies,
): Promise<string | undefined> {
  try {
    const url = new URL('config.json', folder).href
    const bytes = await (copies ? keptWhole(url, copies, signal) : fetchWhole(url, { signal }))
    const config = JSON.parse(new TextDecoder().decode(bytes)) as { model_type?: unknown }
    return typeof config?.model_type === 'string' ? config.model_type : undefined
  } catch (error) {
    signal?.throwIfAborted()
    // Whoever needs the configuration says what is wrong with it; names may do without.
    if (isTritswapError(error) || error instanceof SyntaxError) return undefined
    throw error
  }
}

/** An unprepared model in VRAM, with the graphs that are fed from there. */
export interface HoistedBase extends FilledBase {
  graphs: readonly HoistedGraphFile[]
}

/**
 * Takes the weights out of graphs and into VRAM, without a copy of them in between that is larger than 4 MB.
 * @throws {TritswapError} `input` for graphs that are malformed or have no float weights, `memory`, `network`,
 * `webgpu` for f16 weights on a GPU without f16
 */
export async function hoistIntoVram(
  gpu: Gpu,
  sources: readonly GraphSource[],
  {
    signal,
    onBytes,
    quantized = 'float',
    modelType,
  }: {
    signal?: AbortSignal
    onBytes?: BytesReport
    quantized?: QuantizedChoice
    /** Of the model's configuration: see {@link modelTypeOf}. */
    modelType?: string
  } = {},
): Promise<HoistedBase> {
  const model = await hoistModel(sources, { quantized, modelType })
  signal?.throwIfAborted()
  const table = weightTable(model)
  const bindings = bindingsFrom(table.bindings, table.tensors)
  const weights = await openStore({ gpu, table, bindings })
  try {
    await fill(gpu, weights, model, signal, onBytes)
    return { gpu, weights, table, bindings, graphs: model.graphs, precision: precisionOf(table) }
  } catch (error) {
    weights.destroy()
    throw error
  }
}

async function fill(
  { device }: Gpu,
  weights: WeightStore,
  model: HoistedModel,
  signal?: AbortSignal,
  onBytes?: BytesReport,
): Promise<void> {
  const buffers = new Map(weights.feeds().map(({ name, buffer }) => [name, buffer]))
  const total = weightBytes(model)
  let loaded = 0
  let inFlight = 0
  for await (const { input, offset, bytes } of weightPieces(model, { signal })) {
    if (input === undefined) await weights.write(offset, bytes)
    else device.queue.writeBuffer(buffers.get(input) as GPUBuffer, offset, inWords(bytes))
    loaded += bytes.length
    inFlight += bytes.length
    onBytes?.(loaded, total)
    if (inFlight < MAX_BYTES_IN_FLIGHT) continue
    inFlight = 0
    await device.queue.onSubmittedWorkDone()
  }
}

/** WebGPU writes whole words; buffers have room for the last one. */
function inWords(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  if (bytes.length % 4 === 0) return bytes
  const padded = new Uint8Array(Math.ceil(bytes.length / 4) * 4)
  padded.set(bytes)
  return padded
}

/** How near weights are to those of their checkpoint, by the coarsest among them; undefined for float weights. */
function precisionOf({ tensors }: TritTable): WeightDtype | undefined {
  const bits = tensors.flatMap((tensor) => (tensor.codec === 'blocks' ? [tensor.bits] : []))
  if (bits.length === 0) return undefined
  return bits.some((width) => width < 8) ? 'q4' : 'q8'
}

/**
 * Brings the weights file of a prepared base into VRAM: dense tensors and, by what its graphs have inputs for,
 * quantized ones as they are or dequantized there.
 * @param quantized - how the caller needs quantized weights; by default as the base was prepared
 * @throws {TritswapError} `input` for a base that was prepared for the other choice, `format`, `memory`, `webgpu`, and
 * what the load fails with
 */
export async function readIntoVram(
  gpu: Gpu,
  { head, chunks }: IncomingFile,
  dtype: string,
  { quantized }: { quantized?: QuantizedChoice } = {},
): Promise<FilledBase> {
  const { table } = head
  const bindings = bindingsFrom(table.bindings, table.tensors)
  checkChoice(bindings, table, quantized)
  const weights = await openStore({ gpu, table, bindings })
  try {
    for await (const { offset, bytes } of chunks) await weights.write(offset, bytes)
    const precision = precisionOf(table) ?? (/4/.test(dtype) ? 'q4' : undefined)
    return { gpu, weights, table, bindings, precision }
  } catch (error) {
    weights.destroy()
    throw error
  }
}

/** The graphs of a prepared base have either kind of inputs: the choice was made when it was prepared. */
function checkChoice(
  { graphs }: BaseBindings,
  { tensors }: TritTable,
  wanted: QuantizedChoice | undefined,
): void {
  if (wanted === undefined || !tensors.some(({ codec }) => codec === 'blocks')) return
  const kept = graphs.some(({ inputs }) => inputs.some(({ raw }) => raw !== undefined))
  const found = kept ? 'keep' : 'float'
  if (found === wanted) return
  throw new TritswapError(
    'input',
    `Cannot open this base with quantized: '${wanted}': it was prepared with --quantized ${found}; prepare it again, or open the folder that it was prepared from`,
    { fields: { wanted, found } },
  )
}

async function openStore({
  gpu,
  table,
  bindings,
}: Pick<FilledBase, 'gpu' | 'table' | 'bindings'>): Promise<WeightStore> {
  const inputs = bindings.graphs.flatMap((graph) => graph.inputs)
  if (!gpu.features.f16 && inputs.some(({ dtype }) => dtype === 'float16')) {
    throw new TritswapError(
      'webgpu',
      'Cannot run a graph with f16 weights: this GPU, or the browser for it, lacks shader-f16; use another dtype',
      { fields: { missing: 'shader-f16' } },
    )
  }
  const byName = new Map(inputs.map((input) => [input.name, input]))
  return WeightStore.create({ gpu, inputs: [...byName.values()], table })
}
