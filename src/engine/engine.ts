/**
 * The engine: the one thread with a GPUDevice. Base weights and experts come to it from the fetch workers over ports
 * of their own; the page calls it by comlink and gets text, reports and errors back.
 *
 * @module
 */
import { isTritswapError, TritswapError } from '../errors.ts'
import { progressReporter } from '../fetcher/progress.ts'
import type { FetchProgress } from '../fetcher/protocol.ts'
import { receiveFile } from '../fetcher/receive.ts'
import { type Gpu, requestGpu } from '../gpu/index.ts'
import { fetchGraph, graphPath, hoistIntoVram, modelTypeOf, readIntoVram } from '../model/base_source.ts'
import type { ReadyGraph } from '../model/create_session.ts'
import type { BindingChoice } from '../model/expert_bindings.ts'
import { ExpertHost, type FilledBase, type LoadedInfo } from '../model/expert_host.ts'
import { type Closeness, closeness, scoreWindow } from '../model/score.ts'
import { externalFilesOf, type QuantizedChoice } from '../onnx/index.ts'
import { fileWithCopy, type UseOfCopies } from '../source/offline_copy.ts'
import type {
  ActiveExpert,
  EngineStats,
  GeneratedToken,
  GenerateOptions,
  ModelInfo,
  SwitchReport,
  TextScore,
} from './protocol.ts'
import { type ModelFiles, type OrtPaths, TextModel } from './text_model.ts'

export type { LoadedInfo } from '../model/expert_host.ts'

interface OpenCommon {
  /** Folder of the model, absolute, with a slash at its end. */
  modelUrl: string
  /** For messages. */
  name: string
  ort: OrtPaths
  /** VRAM for compressed experts. */
  expertBudget: number
}

/** A base made by `tritswap prepare`; its weights file comes over a port. */
export interface OpenRequest extends OpenCommon {
  /** The graph's dtype as transformers.js names it. */
  dtype: string
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

interface OpenModel {
  gpu: Gpu
  host: ExpertHost
  text: TextModel
  info: ModelInfo
}

/** The session that transformers.js makes of a causal language model. */
const GRAPH_MODULE = 'model'

export class Engine {
  #open: OpenModel | undefined
  #disposed = false

  /**
   * Brings a prepared base into VRAM and its graph into onnxruntime-web.
   * @param port - the weights file, from a fetch worker
   * @param onLost - called once if the device is lost; nothing works after that
   */
  async open(
    request: OpenRequest,
    port: MessagePort,
    signal: AbortSignal,
    onLost: (message: string) => void,
  ): Promise<ModelInfo> {
    const { modelUrl, ort, dtype, copies } = request
    const gpu = await this.#device(onLost)
    const [graph] = await Promise.all([
      fetchGraph(modelUrl, graphPath(GRAPH_MODULE, dtype), { signal, copies }),
      checkType(request, signal, copies),
    ])
    // The graph compiles while the weights stream.
    const files = modelFiles(
      modelUrl,
      new Map([[graph.file, graph.bytes as Uint8Array<ArrayBuffer>]]),
      copies,
    )
    const externalFiles = externalFilesOf(graph.bytes, graph.file)
    const text = TextModel.load({ files, ort, device: gpu.device, dtype, externalFiles })
    text.catch(() => {})
    const base = await readIntoVram(gpu, await receiveFile(port, signal), dtype)
    return this.#start(base, text, request, { ...graph, externalFiles })
  }

  /**
   * Brings a base that nobody prepared into VRAM: its graph is rewritten here, before transformers.js sees it.
   * @throws {TritswapError} `network`, `input` for a graph that cannot be rewritten, `webgpu`, `memory`
   */
  async openUnprepared(
    request: OpenUnpreparedRequest,
    signal: AbortSignal,
    onLost: (message: string) => void,
    onProgress: (progress: FetchProgress) => void,
  ): Promise<ModelInfo> {
    const { modelUrl, name, subfolder } = request
    const gpu = await this.#device(onLost)
    const modelType = await checkType(request, signal)
    const report = (file: string) => {
      const progress = progressReporter(name, file, onProgress)
      return (loaded: number, total: number | undefined) => progress('progress', 'network', loaded, total)
    }
    const { graph, dtype } = await firstGraph(request, (file) =>
      fetchGraph(modelUrl, file, { signal, onBytes: report(file) }),
    )
    const { quantized } = request
    const base = await hoistIntoVram(gpu, [graph], {
      signal,
      quantized,
      modelType,
      onBytes: report('weights'),
    })
    const [hoisted] = base.graphs
    const text = TextModel.load({
      files: modelFiles(modelUrl, new Map([[hoisted.file, hoisted.bytes]])),
      ort: request.ort,
      device: gpu.device,
      dtype,
      subfolder,
      externalFiles: hoisted.externalFiles,
    })
    return this.#start(base, text, request, { ...hoisted, external: graph.external })
  }

  #device(onLost: (message: string) => void): Promise<Gpu> {
    if (this.#open) throw new TritswapError('input', 'Cannot open a second model: make another loader for it')
    return requestGpu({
      powerPreference: 'high-performance',
      onLost: ({ message }) => {
        if (!this.#disposed) onLost(message)
      },
    })
  }

  async #start(
    base: FilledBase,
    loading: Promise<TextModel>,
    request: OpenCommon & { fingerprint?: string },
    graph: ReadyGraph,
  ): Promise<ModelInfo> {
    const { gpu } = base
    const host = await ExpertHost.create(base, { ...request, graphs: { [GRAPH_MODULE]: graph } })
    const text = await loading
    // From now on a switch makes ready what its forward passes will run in.
    host.runtime.sessions(text.sessions, host.runtime.line())
    const info: ModelInfo = {
      name: request.name,
      adapter: gpu.adapter,
      dtype: host.dtype,
      weights: host.weightCount,
      contextLength: text.contextLength,
      fingerprint: base.table.base.fingerprint ?? request.fingerprint,
    }
    this.#open = { gpu, host, text, info }
    return info
  }

  /**
   * Takes an expert from a fetch worker into VRAM.
   * @param id - what the page calls it from now on
   */
  async load(
    id: string,
    label: string | undefined,
    port: MessagePort,
    signal: AbortSignal,
    binding?: BindingChoice,
  ): Promise<LoadedInfo> {
    const { host } = this.#model()
    const file = await receiveFile(port, signal)
    try {
      return await host.load(id, label, file, binding)
    } finally {
      file.cancel()
    }
  }

  /** Takes an expert that is in VRAM already under another id; undefined if it is not. */
  adopt(
    id: string,
    label: string | undefined,
    rootHash: string,
    binding?: BindingChoice,
  ): LoadedInfo | undefined {
    return this.#model().host.adopt(id, label, rootHash, binding)
  }

  /** Tells which load phases the next switch to this expert should report. */
  loadedIn(id: string, phases: { fetch: number; verify: number; upload: number }): void {
    this.#model().host.loadedIn(id, phases)
  }

  /** Forgets an expert; its VRAM is free for others once no set has it. */
  unload(id: string): void {
    this.#open?.host.unload(id)
  }

  /** @see ExpertHost.activate */
  activate(active: readonly ActiveExpert[], signal: AbortSignal): Promise<SwitchReport> {
    return this.#model().host.activate(active, signal)
  }

  /**
   * Streams tokens; each says which experts were at work in the forward pass that it was sampled from. With
   * `kv: 'recompute'` a switch takes effect when its experts have read the whole context, tokens of others included.
   */
  async *generate(
    prompt: string,
    { experts, kv = 'keep', ...options }: GenerateOptions & { experts?: readonly ActiveExpert[] },
    signal: AbortSignal,
  ): AsyncGenerator<GeneratedToken, void, void> {
    const { host, text } = this.#model()
    const { runtime } = host
    const line = runtime.line(experts && host.set(experts))
    if (kv === 'recompute') line.pin()
    try {
      let last = performance.now()
      const hooks = {
        mark: () => line.ran,
        reread: () => kv === 'recompute' && !experts && line.pin(),
      }
      const sessions = runtime.sessions(text.sessions, line)
      for await (const { token, text: piece, mark: ran } of text.generate(
        prompt,
        sessions,
        hooks,
        options,
        signal,
      )) {
        const now = performance.now()
        yield { token, text: piece, set: ran.id, experts: host.namesOf(ran), ms: now - last }
        last = now
      }
    } finally {
      line.end()
    }
  }

  /** Logits after the last token of a prompt, f32. */
  async logits(prompt: string, experts: readonly ActiveExpert[] | undefined): Promise<Float32Array> {
    const { data, vocabulary } = await this.#run(this.#model().text.encode(prompt), experts)
    return data.slice(-vocabulary)
  }

  /**
   * Bits that the model needs for one window of a text, as `npm run eval` counts them.
   * @param tokens - a window of `WINDOW_TOKENS` or fewer
   */
  async score(tokens: readonly number[], experts: readonly ActiveExpert[] | undefined): Promise<TextScore> {
    const { text } = this.#model()
    const { data, vocabulary } = await this.#run(tokens, experts)
    const { bits } = scoreWindow(data, vocabulary, tokens)
    const bytes = new TextEncoder().encode(text.decode(tokens.slice(1))).length
    return { bits, bytes, tokens: tokens.length - 1 }
  }

  /**
   * How close other sets of experts come to a reference on one window, in order.
   * @param tokens - a window of `WINDOW_TOKENS` or fewer
   */
  async compare(
    tokens: readonly number[],
    reference: readonly ActiveExpert[],
    others: readonly (readonly ActiveExpert[])[],
  ): Promise<Closeness[]> {
    const expected = await this.#run(tokens, reference)
    const results: Closeness[] = []
    for (const other of others) {
      results.push(closeness(expected, await this.#run(tokens, other), tokens.length))
    }
    return results
  }

  tokenize(text: string): number[] {
    return this.#model().text.encode(text)
  }

  stats(): EngineStats {
    return this.#model().host.stats()
  }

  /** @see ExpertHost.checksum */
  checksum(): Promise<string> {
    return this.#model().host.checksum()
  }

  /** @see ExpertHost.hashWeights */
  hashWeights(): Promise<string> {
    return this.#model().host.hashWeights()
  }

  async dispose(): Promise<void> {
    this.#disposed = true
    const open = this.#open
    this.#open = undefined
    if (!open) return
    await open.host.runtime.exclusively(async () => {
      await open.host.runtime.release()
      await open.text.dispose()
      open.host.destroy()
      open.gpu.device.destroy()
    })
  }

  async #run(tokens: readonly number[], experts: readonly ActiveExpert[] | undefined) {
    const { host, text } = this.#model()
    const { runtime } = host
    const line = runtime.line(experts && host.set(experts))
    try {
      return await text.logits(tokens, runtime.sessions(text.sessions, line))
    } finally {
      line.end()
    }
  }

  #model(): OpenModel {
    if (!this.#open) throw new TritswapError('released', 'Cannot use this engine: no model is open in it')
    return this.#open
  }
}

/**
 * Refuses a model that text cannot be generated with, before any of its weights are fetched.
 * @returns its type, where its configuration tells
 */
async function checkType(
  { modelUrl, name }: OpenCommon,
  signal: AbortSignal,
  copies?: UseOfCopies,
): Promise<string | undefined> {
  const modelType = await modelTypeOf(modelUrl, signal, copies)
  if (modelType !== undefined) TextModel.check(modelType, name)
  return modelType
}

/** The graph of the dtype asked for, or of the first that there is. */
async function firstGraph<G>(
  { modelUrl, dtype, subfolder }: OpenUnpreparedRequest,
  fetchGraphAt: (file: string) => Promise<G>,
): Promise<{ graph: G; dtype: string }> {
  const dtypes = dtype === undefined ? ['fp32', 'fp16'] : [dtype]
  const files = dtypes.map((candidate) => graphPath(GRAPH_MODULE, candidate, subfolder))
  for (const [i, file] of files.entries()) {
    try {
      return { graph: await fetchGraphAt(file), dtype: dtypes[i] }
    } catch (error) {
      if (!isTritswapError(error, 'network') || error.fields.status !== 404) throw error
    }
  }
  throw new TritswapError(
    'input',
    `Cannot open ${modelUrl}: it has no tritswap.json, and no ${files.join(' or ')} to prepare here`,
    { fields: { model: modelUrl, files } },
  )
}

/** Files of the model folder for transformers.js: configuration, tokenizer, graph. Some may be at hand already. */
function modelFiles(
  root: string,
  ready: Map<string, Uint8Array<ArrayBuffer>> = new Map(),
  copies?: UseOfCopies,
): ModelFiles {
  return async (path) => {
    const bytes = ready.get(path)
    if (bytes !== undefined) return new Response(bytes)
    const url = new URL(path, root)
    let response: Response
    try {
      const get = () => fetch(url)
      response = await (copies ? fileWithCopy(url.href, copies, get) : get())
    } catch (cause) {
      throw new TritswapError('network', `Cannot fetch ${url}: ${(cause as Error).message}`, {
        fields: { url: url.href },
        cause,
      })
    }
    if (response.status === 404) return undefined
    if (!response.ok) {
      throw new TritswapError('network', `Cannot fetch ${url}: the server answered ${response.status}`, {
        fields: { url: url.href, status: response.status },
      })
    }
    return response
  }
}
