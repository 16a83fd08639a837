/**
 * How the weights of a base get into VRAM: from the weights file of a prepared folder, or out of the graphs of any
 * other.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import type { IncomingFile } from '../fetcher/receive.ts'
import { formOf } from '../format/codecs/index.ts'
import { type BaseBindings, bindingsFrom, type TritTable, type WeightDtype } from '../format/index.ts'
import { checkDtype, type Gpu, WeightStore } from '../gpu/index.ts'
import {
  type GraphFile,
  type HoistedGraphFile,
  type HoistedModel,
  hoistModel,
  parseGraphFile,
  type QuantizedChoice,
  weightBytes,
  weightPieces,
  weightTable,
} from '../onnx/index.ts'
import type { BytesReport } from './graph_files.ts'
import { precisionNamed, precisionOf } from './weight_precision.ts'

/** Weight bytes that may wait in the GPU's queue: the browser holds a copy of each. */
const MAX_BYTES_IN_FLIGHT = 32 << 20

/** A base whose weights are in VRAM, before any expert has changed them. */
export interface FilledBase {
  gpu: Gpu
  weights: WeightStore
  table: TritTable
  bindings: BaseBindings
  /** Set where the weights come from coarser ones than VRAM holds: how far they may be from their checkpoint's. */
  precision?: WeightDtype
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
  sources: readonly GraphFile[],
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
  const total = weightBytes(model)
  let loaded = 0
  let inFlight = 0
  for await (const { input, offset, bytes } of weightPieces(model, { signal })) {
    if (input === undefined) await weights.write(offset, bytes)
    else await weights.writeInput(input, offset, inWords(bytes))
    loaded += bytes.length
    inFlight += bytes.length
    onBytes?.(loaded, total)
    if (inFlight < MAX_BYTES_IN_FLIGHT) continue
    inFlight = 0
    // Only holds the network back: what the device does not do shows in the writes.
    await device.queue.onSubmittedWorkDone().catch(() => {})
  }
}

/** WebGPU writes whole words; buffers have room for the last one. */
function inWords(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  if (bytes.length % 4 === 0) return bytes
  const padded = new Uint8Array(Math.ceil(bytes.length / 4) * 4)
  padded.set(bytes)
  return padded
}

/**
 * Brings the weights file of a prepared base into VRAM: dense tensors and, by what its graphs have inputs for,
 * quantized ones as they are or dequantized there.
 * @param dtype - which of its graphs are to be fed, and what they compute in
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
  const bindings = ofDtype(bindingsFrom(table.bindings, table.tensors), dtype)
  checkChoice(bindings, table, quantized)
  const weights = await openStore({ gpu, table, bindings })
  try {
    for await (const { offset, bytes } of chunks) await weights.write(offset, bytes)
    const precision = precisionOf(table) ?? precisionNamed(dtype)
    return { gpu, weights, table, bindings, precision }
  } catch (error) {
    weights.destroy()
    throw error
  }
}

/** The graphs of one dtype, where a folder has others over the same weights. */
function ofDtype(bindings: BaseBindings, dtype: string): BaseBindings {
  const graphs = bindings.graphs.filter(({ file }) => parseGraphFile(file)?.dtype === dtype)
  return graphs.length === 0 ? bindings : { graphs }
}

/** The graphs of a prepared base have either kind of inputs: the choice was made when it was prepared. */
function checkChoice(
  { graphs }: BaseBindings,
  { tensors }: TritTable,
  wanted: QuantizedChoice | undefined,
): void {
  if (wanted === undefined || !tensors.some((tensor) => formOf(tensor).kind === 'nbits')) return
  const staysQuantized = graphs.some(({ inputs }) => inputs.some(({ raw }) => raw !== undefined))
  const found = staysQuantized ? 'keep' : 'float'
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
  if (inputs.some(({ dtype }) => dtype === 'float16')) checkDtype(gpu.features, 'fp16')
  const byName = new Map(inputs.map((input) => [input.name, input]))
  return WeightStore.create({ gpu, inputs: [...byName.values()], table })
}
