/**
 * Experts for a base model in the browser.
 *
 * ```ts
 * import { ExpertLoader } from 'tritswap'
 *
 * const loader = await ExpertLoader.create({ model: './models/demo' })
 * const austen = await loader.load('experts/austen.trit')
 * await loader.activate(austen)
 * for await (const piece of loader.generate('It was a', { maxNewTokens: 40 })) console.log(piece.text)
 * await loader.deactivate()
 * ```
 *
 * @module
 */

import type { OpenRequest, OpenUnpreparedRequest } from '../engine/engine.ts'
import { isEvicted } from '../engine/engine_errors.ts'
import type {
  ActiveExpert,
  BindingChoice,
  EngineStats,
  ExpertInfo,
  GeneratedToken,
  GenerateOptions,
  ModelInfo,
  SwitchReport,
  TextScore,
} from '../engine/protocol.ts'
import type { EngineApi } from '../engine/worker.ts'
import { isAbortError, TritswapError } from '../errors.ts'
import { type ModelManifest, readModelManifest } from '../fetcher/manifest.ts'
import { FetchPool } from '../fetcher/pool.ts'
import type { FetchProgress, FetchSettings, SourceSpec } from '../fetcher/protocol.ts'
import type { Closeness } from '../model/score.ts'
import { connectWorker, startWorker, transfer, type WorkerLink } from '../rpc/index.ts'
import { folderName, folderUrl } from '../source/model_folder.ts'
import type { AttachedExperts, AttachOptions, AttachTarget } from './attach.ts'

export type * from '../engine/protocol.ts'
export { type ErrorTag, isAbortError, isTritswapError, TritswapError } from '../errors.ts'
export type { FetchProgress, FetchSettings, SourceSpec } from '../fetcher/protocol.ts'
export type { Closeness } from '../model/score.ts'
export type {
  AttachedChoice,
  AttachedExpert,
  AttachedExpertRequest,
  AttachedExperts,
  AttachOptions,
  AttachTarget,
  GraphSpec,
} from './attach.ts'

export type ProgressCallback = (progress: FetchProgress) => void

export interface LoaderOptions {
  /**
   * Folder of the base: a URL, absolute or relative to the page, or `hf:owner/name@revision`. What `tritswap prepare`
   * wrote is loaded as it is; any other ONNX folder as transformers.js takes it is rewritten on the way.
   */
  model: string | URL
  /** Of a folder that is not prepared: which of its graphs, as transformers.js names them; `fp32`, else `fp16`. */
  dtype?: string
  /** Of a folder that is not prepared: where its graphs are; `onnx` by default. */
  subfolder?: string
  /**
   * Of a folder that is not prepared: what becomes of weights that are quantized by blocks (q4, q4f16). `float`
   * dequantizes them in VRAM, so that experts can be merged into them (the default); `keep` leaves them as small as they
   * are, and experts go beside them.
   */
  quantized?: 'float' | 'keep'
  onProgress?: ProgressCallback
  signal?: AbortSignal
  /**
   * Folder with onnxruntime-web's wasm and glue, relative to the page; by default the `ort/` that comes with this
   * library, beside its script. To be given where a bundler moved the script away from it.
   */
  ort?: string | URL
  /** VRAM for compressed experts, in bytes; the least recently used go first. */
  expertBudget?: number
  fetch?: FetchSettings
  /** Told once of each thing that makes loads slower but not wrong, and of every restart of the engine. */
  onWarning?: (message: string) => void
}

/** Where an expert is, and what is known of it: a registry entry will do. */
export interface ExpertRequest {
  source: SourceSpec
  /** What to call it in tokens and reports; unique in this loader. */
  id?: string
  label?: string
  /** Known from a registry, it authenticates every byte before it is used. */
  rootHash?: string
  /**
   * How it meets the base, unless an activation says otherwise: `auto` (the default) takes what costs least, `merge`
   * changes the weights in place, `side` and `input` leave them alone.
   */
  binding?: BindingChoice
}

export interface LoadOptions {
  onProgress?: ProgressCallback
  signal?: AbortSignal
}

/** An expert that was loaded: resident in VRAM, or fetched again from the cache when it is needed. */
export interface Expert extends ExpertInfo {
  /** Gives its VRAM back once no set holds it. @throws {TritswapError} `released` the second time */
  release(): Promise<void>
}

/** One expert, several with weights, or none for the base. */
export type ExpertChoice = Expert | readonly { expert: Expert; weight: number; binding?: BindingChoice }[]

const DEFAULT_EXPERT_BUDGET = 256 << 20

interface Running {
  link: WorkerLink<EngineApi>
  info: ModelInfo
}

interface Handle {
  request: ExpertRequest
  expert: Expert
  /** The engine that has it; another one must load it first. */
  home: Running
}

/**
 * Experts for sessions that you run yourself: moves their weights into buffers of ours, where experts can change them.
 * The sessions are created anew from graphs without weights and take the places of the old ones; code that uses the
 * model goes on unchanged. Call it while nothing runs in them.
 *
 * @throws {TritswapError} `input` for a target without sessions or graphs that cannot be rewritten, `network`,
 * `webgpu`, `memory`; the sessions are as they were then
 */
export async function attachExperts(
  target: AttachTarget,
  options: AttachOptions = {},
): Promise<AttachedExperts> {
  // Rewriting graphs takes many times the code of the rest: it comes when it is called for.
  const attach = await import('./attach.ts')
  return attach.attachExperts(target, options)
}

export class ExpertLoader {
  readonly #options: LoaderOptions
  readonly #pool: FetchPool
  readonly #handles = new Map<string, Handle>()
  /** Ids of experts on their way. */
  readonly #loading = new Set<string>()
  #running: Promise<Running> | undefined
  #info!: ModelInfo
  /** The set that `activate` asked for last: a new engine starts with it. */
  #chosen: readonly ActiveExpert[] = []
  #disposed = false

  private constructor(options: LoaderOptions) {
    this.#options = options
    this.#pool = new FetchPool({
      createWorker: () =>
        startWorker(
          (Worker) => new Worker(new URL('../fetcher/worker.ts', import.meta.url), { type: 'module' }),
        ),
      settings: options.fetch,
      onWarning: options.onWarning,
    })
  }

  /**
   * Loads the base into VRAM.
   * @throws {TritswapError} `webgpu`, `network`, `integrity`, `format`, `memory`; or the signal's `AbortError`
   */
  static async create(options: LoaderOptions): Promise<ExpertLoader> {
    const loader = new ExpertLoader(options)
    try {
      loader.#running = loader.#start(options.onProgress, options.signal)
      await loader.#running
      return loader
    } catch (error) {
      await loader.dispose()
      throw error
    }
  }

  get info(): ModelInfo {
    return this.#info
  }

  /** The chunk cache that all loaders of this origin share. */
  get cache(): FetchPool['cache'] {
    return this.#pool.cache
  }

  /**
   * Fetches an expert and keeps it in VRAM, compressed.
   * @throws {TritswapError} `network`, `integrity`, `format`, `limit`, `base`, `mapping`, `memory`; the base and what
   * is loaded stay as they were
   */
  async load(source: SourceSpec | ExpertRequest, options: LoadOptions = {}): Promise<Expert> {
    const request = isRequest(source) ? source : { source }
    const home = await this.#engine()
    const id = this.#freeId(request)
    this.#loading.add(id)
    try {
      const info = await this.#fetchExpert(home, id, request, options)
      const expert: Expert = { ...info, release: () => this.#release(id) }
      this.#handles.set(id, { request, expert, home })
      return expert
    } finally {
      this.#loading.delete(id)
    }
  }

  /** Fills the cache with an expert while nothing else is going on; skipped where the visitor saves data. */
  async prefetch(source: SourceSpec | ExpertRequest, { onProgress, signal }: LoadOptions = {}) {
    const { source: from, rootHash, label } = isRequest(source) ? source : { source }
    return this.#pool.prefetch(
      { source: from, rootHash, kind: 'expert', name: label },
      { onProgress, signal },
    )
  }

  /**
   * Makes a set of experts current, between two tokens. Of several quick calls the last one wins.
   * @throws {DOMException} `AbortError` if a later call overtook this one
   */
  async activate(choice: ExpertChoice, { signal }: { signal?: AbortSignal } = {}): Promise<SwitchReport> {
    return this.#activate(choose(choice), signal)
  }

  /** Goes back to the base, bit for bit. */
  async deactivate(): Promise<SwitchReport> {
    return this.#activate([])
  }

  /**
   * Streams tokens, each with the set of experts that wrote it.
   * @param options - `experts` binds experts to this call only; without it the call follows `activate`
   */
  async *generate(
    prompt: string,
    options: GenerateOptions & { experts?: ExpertChoice; signal?: AbortSignal } = {},
  ): AsyncGenerator<GeneratedToken, void, void> {
    const { signal = new AbortController().signal, experts, ...rest } = options
    const chosen = experts && choose(experts)
    const { link } = await this.#withExpertFiles(chosen ?? [])
    yield* await link.api.generate(prompt, { ...rest, experts: chosen }, signal)
  }

  /** Logits after the last token of a prompt. */
  async logits(prompt: string, experts?: ExpertChoice): Promise<Float32Array> {
    const chosen = experts && choose(experts)
    const { link } = await this.#withExpertFiles(chosen ?? [])
    return link.api.logits(prompt, chosen)
  }

  async tokenize(text: string): Promise<number[]> {
    return (await this.#engine()).link.api.tokenize(text)
  }

  /** Bits that the model needs for a window of up to 256 tokens, the first of which is given. */
  async score(tokens: readonly number[], experts?: ExpertChoice): Promise<TextScore> {
    const chosen = experts && choose(experts)
    const { link } = await this.#withExpertFiles(chosen ?? [])
    return link.api.score(tokens, chosen)
  }

  /**
   * How close other sets of experts come to a reference on a window of up to 256 tokens: equal first choices, and the
   * Kullback–Leibler divergence, summed over its positions.
   */
  async compare(
    tokens: readonly number[],
    reference: ExpertChoice,
    others: readonly ExpertChoice[],
  ): Promise<Closeness[]> {
    const [expected, ...rest] = [reference, ...others].map(choose)
    const { link } = await this.#withExpertFiles([...expected, ...rest.flat()])
    return link.api.compare(tokens, expected, rest)
  }

  async stats(): Promise<EngineStats> {
    return (await this.#engine()).link.api.stats()
  }

  /** A checksum of all weights in VRAM, computed there. */
  async checksum(): Promise<string> {
    return (await this.#engine()).link.api.checksum()
  }

  /** SHA-256 of all weights read back from VRAM: slow, for tests and for doubt. */
  async hashWeights(): Promise<string> {
    return (await this.#engine()).link.api.hashWeights()
  }

  /** Frees everything: VRAM, workers, pending calls. */
  async dispose(): Promise<void> {
    if (this.#disposed) return
    this.#disposed = true
    this.#pool.dispose()
    const running = await this.#running?.catch(() => undefined)
    if (!running) return
    await running.link.api.dispose().catch(() => {})
    running.link.terminate(new TritswapError('released', 'Cannot go on: the loader was disposed'))
  }

  async #start(onProgress?: ProgressCallback, signal?: AbortSignal): Promise<Running> {
    signal?.throwIfAborted()
    const base = document.baseURI
    const modelUrl = folderUrl(this.#options.model, base, this.#options.fetch?.hub)
    const name = folderName(modelUrl)
    const ort = ortFolder(this.#options.ort, base)
    this.#pool.warm()
    const worker = startWorker(
      (Worker) => new Worker(new URL('../engine/worker.ts', import.meta.url), { type: 'module' }),
    )
    const link = connectWorker<EngineApi>(worker, 'engine worker')
    const stop = () => link.terminate(signal?.reason as Error)
    signal?.addEventListener('abort', stop, { once: true })
    try {
      const common = {
        modelUrl,
        name,
        ort: {
          mjs: `${ort}ort-wasm-simd-threaded.asyncify.mjs`,
          wasm: `${ort}ort-wasm-simd-threaded.asyncify.wasm`,
        },
        expertBudget: this.#options.expertBudget ?? DEFAULT_EXPERT_BUDGET,
      }
      const lost = (message: string) =>
        link.terminate(
          new TritswapError(
            'device-lost',
            `Cannot go on: the GPU device was lost (${message}); the next call starts a new one`,
          ),
        )
      const keep = this.#options.fetch?.cacheBudget !== 0
      const manifest = await readModelManifest(modelUrl, signal, keep)
      // What belongs together comes from one place.
      const copies = keep ? (manifest?.isCopy ? 'first' : 'never') : undefined
      if (manifest?.isCopy)
        this.#options.onWarning?.(
          `${modelUrl} cannot be reached: using the copies in the cache, which may be out of date`,
        )
      const info = manifest
        ? await this.#openPrepared(link, { ...common, ...manifest, copies }, lost, { onProgress, signal })
        : await this.#openUnprepared(link, common, lost, { onProgress, signal })
      this.#info = info
      const running = { link, info }
      link.dead.addEventListener('abort', () => this.#onDeath(running), { once: true })
      return running
    } catch (error) {
      link.terminate(error as Error)
      throw error
    } finally {
      signal?.removeEventListener('abort', stop)
    }
  }

  async #openPrepared(
    link: WorkerLink<EngineApi>,
    {
      weights,
      modelUrl,
      name,
      ort,
      expertBudget,
      dtype,
      fingerprint,
      copies,
    }: Omit<OpenRequest, 'dtype'> & ModelManifest,
    lost: (message: string) => void,
    options: LoadOptions,
  ): Promise<ModelInfo> {
    const file = this.#pool.load(
      { source: new URL(weights.file, modelUrl), rootHash: weights.rootHash, kind: 'base', name },
      options,
    )
    const request: OpenRequest = { modelUrl, name, ort, expertBudget, dtype, fingerprint, copies }
    const opened = link.api.open(request, transfer(file.port, [file.port]), file.signal, lost)
    // Whichever fails first is the reason; the other one fails because of it.
    const [info] = await Promise.all([opened, file.done])
    const { file: path, bytes } = weights
    options.onProgress?.({ status: 'ready', name, file: path, loaded: bytes, total: bytes, progress: 100 })
    return info
  }

  async #openUnprepared(
    link: WorkerLink<EngineApi>,
    common: Omit<OpenUnpreparedRequest, 'dtype' | 'subfolder' | 'quantized'>,
    lost: (message: string) => void,
    { onProgress = () => {}, signal = new AbortController().signal }: LoadOptions,
  ): Promise<ModelInfo> {
    const { dtype, subfolder, quantized } = this.#options
    const info = await link.api.openUnprepared(
      { ...common, dtype, subfolder, quantized },
      signal,
      lost,
      onProgress,
    )
    onProgress({ status: 'ready', name: common.name, file: 'weights' })
    return info
  }

  #onDeath(dead: Running): void {
    if (this.#disposed) return
    this.#options.onWarning?.(`The engine stopped: ${(dead.link.dead.reason as Error).message}`)
    this.#running = undefined
  }

  /** The engine, started anew if the last one died; with the experts that were active before. */
  #engine(): Promise<Running> {
    if (this.#disposed) {
      return Promise.reject(
        new TritswapError('released', 'Cannot use this loader: it was disposed; create a new one'),
      )
    }
    this.#running ??= this.#restart()
    return this.#running
  }

  async #restart(): Promise<Running> {
    try {
      const running = await this.#start(this.#options.onProgress)
      if (this.#chosen.length > 0) {
        await this.#bringHome(running, this.#chosen)
        await running.link.api.activate(this.#chosen, new AbortController().signal)
      }
      return running
    } catch (error) {
      this.#running = undefined
      throw error
    }
  }

  async #activate(
    chosen: readonly ActiveExpert[],
    signal = new AbortController().signal,
  ): Promise<SwitchReport> {
    for (let attempt = 0; ; attempt++) {
      const running = await this.#withExpertFiles(chosen)
      try {
        const report = await running.link.api.activate(chosen, signal)
        this.#chosen = chosen
        return report
      } catch (error) {
        const evicted = isEvicted(error)
        if (!evicted || attempt > 0) throw error
        for (const id of evicted) await this.#reload(running, this.#handle(id))
      }
    }
  }

  async #withExpertFiles(chosen: readonly ActiveExpert[]): Promise<Running> {
    for (const { expert } of chosen) this.#handle(expert)
    const running = await this.#engine()
    await this.#bringHome(running, chosen)
    return running
  }

  /** Loads again what an engine before this one had. */
  async #bringHome(running: Running, chosen: readonly ActiveExpert[]): Promise<void> {
    for (const { expert } of chosen) {
      const handle = this.#handle(expert)
      if (handle.home !== running) await this.#reload(running, handle)
    }
  }

  async #reload(running: Running, handle: Handle): Promise<void> {
    await this.#fetchExpert(
      running,
      handle.expert.id,
      { ...handle.request, rootHash: handle.expert.rootHash },
      {},
    )
    handle.home = running
  }

  async #fetchExpert(
    { link }: Running,
    id: string,
    { source, rootHash, label, binding }: ExpertRequest,
    { onProgress, signal }: LoadOptions,
  ): Promise<ExpertInfo> {
    const adopted = rootHash && (await link.api.adopt(id, label, rootHash, binding))
    if (adopted) {
      const { uploadMs: upload, ...info } = adopted
      return {
        ...info,
        timings: { fetch: 0, verify: 0, upload, networkBytes: 0, cacheBytes: 0, requests: 0 },
      }
    }
    const file = this.#pool.load(
      { source, rootHash, kind: 'expert', name: label ?? id },
      { onProgress, signal },
    )
    const loaded = link.api.load(id, label, transfer(file.port, [file.port]), file.signal, binding)
    try {
      const [{ uploadMs, ...info }, { stats }] = await Promise.all([loaded, file.done])
      const phases = { fetch: stats.fetchMs + stats.cacheMs, verify: stats.verifyMs, upload: uploadMs }
      // Any switch to it comes after this message.
      link.api.loadedIn(id, phases).catch(() => {})
      const { networkBytes, cacheBytes, requests } = stats
      return { ...info, timings: { ...phases, networkBytes, cacheBytes, requests } }
    } catch (error) {
      // Both ends of a load settle before it is reported, so that nothing of it goes on.
      await Promise.allSettled([loaded, file.done])
      throw isAbortError(error) && signal?.aborted ? (signal.reason as Error) : error
    }
  }

  async #release(id: string): Promise<void> {
    this.#handle(id)
    this.#handles.delete(id)
    const running = await this.#running?.catch(() => undefined)
    await running?.link.api.unload(id)
  }

  #handle(id: string): Handle {
    const handle = this.#handles.get(id)
    if (!handle)
      throw new TritswapError('released', `Cannot use expert ${id}: it was released`, { fields: { id } })
    return handle
  }

  #freeId({ id, label, source }: ExpertRequest): string {
    const wanted =
      id ??
      label ??
      (typeof source === 'string'
        ? source
            .split('/')
            .at(-1)
            ?.replace(/\.trit$/, '')
        : undefined) ??
      'expert'
    let free = wanted
    for (let n = 2; this.#handles.has(free) || this.#loading.has(free); n++) free = `${wanted}#${n}`
    return free
  }
}

/** Where the build puts onnxruntime-web's files, as seen from its scripts. */
declare const __TRITSWAP_ORT__: string

function ortFolder(given: string | URL | undefined, base: string): string {
  if (given === undefined) return new URL(__TRITSWAP_ORT__, import.meta.url).href
  return new URL(`${String(given).replace(/\/+$/, '')}/`, base).href
}

function isRequest(source: SourceSpec | ExpertRequest): source is ExpertRequest {
  return typeof source === 'object' && 'source' in source
}

function choose(choice: ExpertChoice): ActiveExpert[] {
  return 'release' in choice
    ? [{ expert: choice.id, weight: 1 }]
    : choice.map(({ expert, weight, binding }) => ({
        expert: expert.id,
        weight,
        ...(binding && { binding }),
      }))
}
