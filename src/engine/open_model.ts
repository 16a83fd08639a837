/**
 * How a model is opened in the engine worker: its weights go into VRAM, its graph into onnxruntime-web by way of
 * transformers.js.
 *
 * @module
 */
import { isTritswapError, TritswapError } from '../errors.ts'
import { progressReporter } from '../fetcher/progress.ts'
import type { FetchProgress } from '../fetcher/protocol.ts'
import { receiveFile } from '../fetcher/receive.ts'
import { canCompute, checkDtype, type Gpu, requestGpu } from '../gpu/index.ts'
import { ExpertHost } from '../model/expert_host.ts'
import { type FilledBase, hoistIntoVram, readIntoVram } from '../model/filled_base.ts'
import { fetchGraph, preparedGraph } from '../model/graph_files.ts'
import { graphPath } from '../model/graph_path.ts'
import { externalFilesOf, type GraphFile, type QuantizedChoice } from '../onnx/index.ts'
import { httpSource } from '../source/http.ts'
import { fetchPastErrors, isAbsence } from '../source/http_request.ts'
import { fileWithCopy, type UseOfCopies } from '../source/offline_copy.ts'
import { withRetry } from '../source/retry.ts'
import { type ModelConfig, readModelConfig } from './model_config.ts'
import type { ModelInfo } from './protocol.ts'
import { type ModelFiles, type OrtPaths, TextModel } from './text_model.ts'

interface OpenCommon {
  /** Folder of the model, absolute, with a slash at its end. */
  modelUrl: string
  /** For messages. */
  name: string
  ort: OrtPaths
  /** Script of the library of grammars, absolute. */
  grammar: string
  /** VRAM for compressed experts. */
  expertBudget: number
}

/** A base made by `tritswap prepare`; its weights file comes over a port. */
export interface OpenRequest extends OpenCommon {
  /** The graph's dtype as transformers.js names it. */
  dtype: string
  /** Paths of its graphs in the folder; where transformers.js looks for them by default. */
  graphs?: readonly string[]
  fingerprint?: string
  /** Copies of its small files are kept, and taken as its manifest was; none by default. */
  copies?: UseOfCopies
}

/** A base as it lies on the hub: the engine rewrites its graph. */
export interface OpenUnpreparedRequest extends OpenCommon {
  /** f32, or f16 where there is no f32, by default. */
  dtype?: string
  /** What becomes of weights that are quantized by blocks. */
  quantized?: QuantizedChoice
  subfolder?: string
}

/** A model as calls need it. */
export interface OpenModel {
  gpu: Gpu
  host: ExpertHost
  text: TextModel
  info: ModelInfo
}

/** The session that transformers.js makes of a causal language model. */
const GRAPH_MODULE = 'model'

/**
 * Brings a prepared base into VRAM and its graph into onnxruntime-web.
 * @param port - the weights file, from a fetch worker
 * @param onLost - called once if the device is lost; nothing works after that
 */
export async function openPrepared(
  request: OpenRequest,
  port: MessagePort,
  signal: AbortSignal,
  onLost: (message: string) => void,
): Promise<OpenModel> {
  const { modelUrl, ort, grammar, dtype, copies } = request
  const gpu = await openDevice(onLost)
  checkDtype(gpu.features, dtype)
  const { path, subfolder } = preparedGraph(GRAPH_MODULE, request)
  const [source, { files: ready, modelType }] = await Promise.all([
    fetchGraph(modelUrl, path, { signal, copies }),
    readConfig(request, signal, copies),
  ])
  // The graph compiles while the weights stream.
  const { graph } = source
  const files = modelFiles(modelUrl, ready.set(graph.file, graph.bytes), copies)
  const externalFiles = externalFilesOf(graph)
  const text = TextModel.load({ files, ort, grammar, device: gpu.device, dtype, subfolder, externalFiles })
  text.catch(() => {})
  const base = await readIntoVram(gpu, await receiveFile(port, signal), dtype)
  return assemble(base, text, { ...request, modelType }, source)
}

/**
 * Brings a base that is not prepared into VRAM: its graph is rewritten here, before transformers.js sees it.
 * @throws {TritswapError} `network`, `input` for a graph that cannot be rewritten, `webgpu`, `memory`
 */
export async function openUnprepared(
  request: OpenUnpreparedRequest,
  signal: AbortSignal,
  onLost: (message: string) => void,
  onProgress: (progress: FetchProgress) => void,
): Promise<OpenModel> {
  const { modelUrl, name, subfolder } = request
  const gpu = await openDevice(onLost)
  const { modelType, files } = await readConfig(request, signal)
  const report = (file: string) => {
    const progress = progressReporter(name, file, onProgress)
    return (loaded: number, total: number | undefined) => progress('progress', 'network', loaded, total)
  }
  const { source, dtype } = await firstGraph(gpu, request, (file) =>
    fetchGraph(modelUrl, file, { signal, onBytes: report(file) }),
  )
  const { quantized } = request
  const base = await hoistIntoVram(gpu, [source], {
    signal,
    quantized,
    modelType,
    onBytes: report('weights'),
  })
  const [{ graph }] = base.graphs
  const text = TextModel.load({
    files: modelFiles(modelUrl, files.set(graph.file, graph.bytes)),
    ort: request.ort,
    grammar: request.grammar,
    device: gpu.device,
    dtype,
    subfolder,
    externalFiles: externalFilesOf(graph),
    templateFile: 'chat_template.jinja',
  })
  return assemble(base, text, { ...request, modelType }, { graph, external: source.external })
}

function openDevice(onLost: (message: string) => void): Promise<Gpu> {
  return requestGpu({ powerPreference: 'high-performance', onLost: ({ message }) => onLost(message) })
}

async function assemble(
  base: FilledBase,
  loading: Promise<TextModel>,
  request: OpenCommon & { fingerprint?: string; modelType: string },
  graph: GraphFile,
): Promise<OpenModel> {
  const { gpu } = base
  const host = await ExpertHost.create(base, { ...request, graphs: { [GRAPH_MODULE]: graph } })
  const text = await loading
  // The runtime learns of the sessions, so that the first switch prepares what forward passes will run in.
  host.runtime.sessions(text.sessions, host.runtime.passContext())
  const info: ModelInfo = {
    name: request.name,
    adapter: gpu.adapter,
    dtype: host.dtype,
    weights: host.weightCount,
    contextLength: text.contextLength,
    chat: text.chat.exists,
    fingerprint: base.table.base.fingerprint ?? request.fingerprint,
  }
  return { gpu, host, text, info }
}

/** Configuration and tokenizer. Refuses a model that text cannot be generated with before its weights are fetched. */
async function readConfig(
  { modelUrl, name }: OpenCommon,
  signal: AbortSignal,
  copies?: UseOfCopies,
): Promise<ModelConfig> {
  const read = modelFiles(modelUrl, new Map(), copies, signal)
  const config = await readModelConfig(modelUrl, async (file) => {
    const response = await read(file)
    return response && new Uint8Array(await response.arrayBuffer())
  })
  TextModel.check(config.modelType, name)
  return config
}

/** The graph of the dtype asked for, or of the first that there is. */
async function firstGraph<G>(
  gpu: Gpu,
  { modelUrl, dtype, subfolder }: OpenUnpreparedRequest,
  fetchGraphAt: (file: string) => Promise<G>,
): Promise<{ source: G; dtype: string }> {
  const dtypes = dtype === undefined ? ['fp32', 'fp16'] : [dtype]
  const files = dtypes.map((candidate) => graphPath(GRAPH_MODULE, candidate, subfolder))
  let status: number | undefined
  for (const [i, file] of files.entries()) {
    if (dtype !== undefined) checkDtype(gpu.features, dtype)
    try {
      // Fetching a graph that this GPU cannot run would be for nothing: one byte tells whether the folder has it.
      if (!canCompute(gpu.features, dtypes[i])) {
        await withRetry(httpSource(new URL(file, modelUrl).href)).read(0, 1)
        checkDtype(gpu.features, dtypes[i])
      }
      return { source: await fetchGraphAt(file), dtype: dtypes[i] }
    } catch (error) {
      if (!isTritswapError(error, 'network') || !isAbsence(error.fields.status as number)) throw error
      status = error.fields.status as number
    }
  }
  throw new TritswapError(
    'input',
    `Cannot open ${modelUrl}: it has no tritswap.json, and no ${files.join(' or ')} to prepare here (the server answered ${status}); check the address, and that the files may be read without signing in`,
    { fields: { model: modelUrl, files, status } },
  )
}

/** Files of the model folder for transformers.js: configuration, tokenizer, graph. Some may be at hand already. */
function modelFiles(
  root: string,
  ready: ReadonlyMap<string, Uint8Array<ArrayBuffer> | undefined>,
  copies?: UseOfCopies,
  signal?: AbortSignal,
): ModelFiles {
  return async (path) => {
    if (ready.has(path)) {
      const bytes = ready.get(path)
      return bytes && new Response(bytes, { headers: { 'Content-Length': String(bytes.length) } })
    }
    const url = new URL(path, root)
    let response: Response
    try {
      const get = () => fetchPastErrors(url.href, { signal })
      response = await (copies ? fileWithCopy(url.href, copies, get) : get())
    } catch (cause) {
      signal?.throwIfAborted()
      throw new TritswapError('network', `Cannot fetch ${url}: ${(cause as Error).message}`, {
        fields: { url: url.href },
        cause,
      })
    }
    // Servers of single-page apps send their page for what is not there; JSON that is a page is named by who reads it.
    const isPage = response.headers.get('Content-Type')?.startsWith('text/html') && !path.endsWith('.json')
    if (isAbsence(response.status) || isPage) {
      await response.body?.cancel()
      return undefined
    }
    if (!response.ok) {
      throw new TritswapError('network', `Cannot fetch ${url}: the server answered ${response.status}`, {
        fields: { url: url.href, status: response.status },
      })
    }
    return response
  }
}
