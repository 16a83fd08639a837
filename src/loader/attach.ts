/**
 * Experts for people who run transformers.js or onnxruntime-web on their own.
 *
 * ```ts
 * const generator = await pipeline('text-generation', 'org/name', { device: 'webgpu', dtype: 'fp32' })
 * const attached = await attachExperts(generator, { model: 'hf:org/name' })
 * const austen = await attached.load('experts/austen.trit')
 * await attached.activate(austen)
 * await generator('It was a') // unchanged code
 * await attached.deactivate()
 * ```
 *
 * @module
 */
import { isAbortError, isTritswapError, TritswapError } from '../errors.ts'
import { LocalFetches } from '../fetcher/local.ts'
import { readModelManifest } from '../fetcher/manifest.ts'
import { FetchPool } from '../fetcher/pool.ts'
import { progressReporter } from '../fetcher/progress.ts'
import type { FetchProgress, FetchSettings, SourceSpec } from '../fetcher/protocol.ts'
import { receiveFile } from '../fetcher/receive.ts'
import { type Gpu, requestGpu, wrapDevice } from '../gpu/index.ts'
import {
  externalFiles,
  fetchGraph,
  type GraphSource,
  graphPath,
  hoistIntoVram,
  modelTypeOf,
  moduleOf,
  readIntoVram,
} from '../model/base_source.ts'
import { type ConfiguredSession, createLike, type ReadyGraph } from '../model/create_session.ts'
import type { BindingChoice } from '../model/expert_bindings.ts'
import { ExpertHost, type FilledBase } from '../model/expert_host.ts'
import type {
  ActiveExpert,
  AdapterInfo,
  EngineStats,
  ExpertInfo,
  SwitchReport,
} from '../model/expert_info.ts'
import type { OrtSession } from '../model/hoisted_session.ts'
import { externalFilesOf, type QuantizedChoice } from '../onnx/index.ts'
import { folderName, folderUrl } from '../source/model_folder.ts'
import type { ByteSource } from '../source/source.ts'

/** What we use of a transformers.js model. */
export interface SessionsOwner {
  sessions: Record<string, unknown>
}

/** A transformers.js model, a pipeline around one, or one onnxruntime-web `InferenceSession`. */
export type AttachTarget = SessionsOwner | { model: SessionsOwner } | object

/** An ONNX file: where it is, or its bytes. */
export type GraphSpec = string | URL | Uint8Array<ArrayBuffer> | ByteSource

export interface AttachOptions {
  /**
   * Folder that the sessions were made from: a URL, absolute or relative to the page, or `hf:owner/name@revision`. One
   * that `tritswap prepare` wrote is used as it is; of any other the graphs are rewritten here. Needed unless `graphs`
   * names every graph.
   */
  model?: string | URL
  /** Of the graphs, as transformers.js names it; by default what the sessions say they are, else `fp32`. */
  dtype?: string
  /**
   * What becomes of weights that are quantized by blocks (q4, q4f16): `float` dequantizes them in VRAM, so that experts
   * can be merged into them (the default); `keep` leaves them as small as they are. A prepared folder has its choice
   * made.
   */
  quantized?: QuantizedChoice
  /** Folder of the graphs in `model`; `onnx` by default. */
  subfolder?: string
  /**
   * Graphs by the name of their session, where they are not `<subfolder>/<session name>.onnx`. A bare session is called
   * `model`.
   */
  graphs?: Readonly<Record<string, GraphSpec>>
  /** External data of graphs that are given as bytes, by the name that the graph calls it. */
  external?: (location: string) => ByteSource
  /** To run on; by default one of our own. Sessions that get GPU tensors from elsewhere need the device of those. */
  device?: GPUDevice
  /** Added to what the sessions are created anew with. */
  sessionOptions?: Readonly<Record<string, unknown>>
  /** For messages. */
  name?: string
  /** VRAM for compressed experts, in bytes; the least recently used go first. */
  expertBudget?: number
  fetch?: FetchSettings
  /** Makes a worker of `tritswap/fetcher`: experts are then fetched and verified there and not on this thread. */
  createFetchWorker?: () => Worker
  onProgress?: (progress: FetchProgress) => void
  onWarning?: (message: string) => void
  /** Ends the attaching; the sessions stay as they were. */
  signal?: AbortSignal
}

/** Where an expert is, and what is known of it: a registry entry will do. */
export interface AttachedExpertRequest {
  source: SourceSpec
  /** What to call it in reports; unique in what it is attached to. */
  id?: string
  label?: string
  /** Known from a registry, it authenticates every byte before it is used. */
  rootHash?: string
  /**
   * How it meets the base, unless `activate` says otherwise: `auto` (the default) takes what costs least, `merge` changes
   * the weights in place, `side` and `input` leave them alone.
   */
  binding?: BindingChoice
}

export interface AttachedExpert extends ExpertInfo {
  /** Gives its VRAM back once it is not active. @throws {TritswapError} `released` the second time */
  release(): Promise<void>
}

export type AttachedChoice =
  | AttachedExpert
  | readonly { expert: AttachedExpert; weight: number; binding?: BindingChoice }[]

const DEFAULT_EXPERT_BUDGET = 256 << 20

const attachedSessions = new WeakSet<object>()

/**
 * Moves the weights of running sessions into buffers of ours, where experts can change them. The sessions are created
 * anew from graphs without weights and take the places of the old ones; code that uses the model goes on unchanged.
 * Call it while nothing runs in them.
 *
 * @throws {TritswapError} `input` for a target without sessions or graphs that cannot be rewritten, `network`,
 * `webgpu`, `memory`; the sessions are as they were then
 */
export async function attachExperts(
  target: AttachTarget,
  options: AttachOptions = {},
): Promise<AttachedExperts> {
  const { owner, sessions } = sessionsOf(target)
  for (const session of Object.values(sessions)) {
    if (attachedSessions.has(session)) {
      throw new TritswapError(
        'input',
        'Cannot attach experts twice: use what the first attachExperts returned',
      )
    }
  }
  options.signal?.throwIfAborted()
  const fetches = options.createFetchWorker
    ? new FetchPool({
        createWorker: options.createFetchWorker,
        settings: options.fetch,
        onWarning: options.onWarning,
      })
    : new LocalFetches(options.fetch, options.onWarning)
  const gpu = options.device ? wrapDevice(options.device) : await requestGpu()
  const created: Record<string, ConfiguredSession> = {}
  let base: FilledBase | undefined
  try {
    const opened = await openBase(gpu, sessions, options, fetches)
    base = opened.base
    // One after the other: onnxruntime-web creates no two at a time.
    for (const [name, session] of Object.entries(sessions)) {
      created[name] = await createLike(session, opened.graphs[name], gpu, options.sessionOptions)
    }
    const host = await ExpertHost.create(base, {
      name: opened.name,
      fingerprint: opened.fingerprint,
      expertBudget: options.expertBudget ?? DEFAULT_EXPERT_BUDGET,
      graphs: opened.graphs,
      sessionOptions: options.sessionOptions,
    })
    const proxies = host.runtime.sessions(created, host.runtime.line())
    for (const proxy of Object.values(proxies)) attachedSessions.add(proxy)
    if (owner) Object.assign(owner.sessions, proxies)
    for (const session of Object.values(sessions)) await session.release?.()
    return new AttachedExperts(host, proxies, fetches, options)
  } catch (error) {
    for (const session of Object.values(created)) await session.release?.()
    base?.weights.destroy()
    if (!options.device) gpu.device.destroy()
    fetches.dispose()
    throw error
  }
}

/** What {@link attachExperts} returns: the experts of one model. */
export class AttachedExperts {
  /** The sessions that took the places of the old ones, by the names that transformers.js gives them. */
  readonly sessions: Readonly<Record<string, OrtSession>>
  readonly adapter: AdapterInfo
  /** Type of the weights in VRAM. */
  readonly dtype: 'f32' | 'f16'
  readonly #host: ExpertHost
  readonly #fetches: FetchPool | LocalFetches
  readonly #options: AttachOptions
  readonly #requests = new Map<string, AttachedExpertRequest>()
  #disposed = false

  /** @internal */
  constructor(
    host: ExpertHost,
    sessions: Record<string, OrtSession>,
    fetches: FetchPool | LocalFetches,
    options: AttachOptions,
  ) {
    this.#host = host
    this.sessions = sessions
    this.#fetches = fetches
    this.#options = options
    this.adapter = host.gpu.adapter
    this.dtype = host.dtype
  }

  /** The session of a model that has one: where a bare session was given, this is what to run instead of it. */
  get session(): OrtSession {
    return Object.values(this.sessions)[0]
  }

  /**
   * Fetches an expert and keeps it in VRAM, compressed.
   * @throws {TritswapError} `network`, `integrity`, `format`, `limit`, `base`, `mapping`, `memory`; the base and what
   * is loaded stay as they were
   */
  async load(
    source: SourceSpec | AttachedExpertRequest,
    options: { onProgress?: (progress: FetchProgress) => void; signal?: AbortSignal } = {},
  ): Promise<AttachedExpert> {
    this.#check()
    const request = typeof source === 'object' && 'source' in source ? source : { source }
    const id = this.#freeId(request)
    this.#requests.set(id, request)
    try {
      const info = await this.#fetch(id, request, options)
      this.#requests.set(id, { ...request, rootHash: info.rootHash })
      return { ...info, release: () => this.#release(id) }
    } catch (error) {
      this.#requests.delete(id)
      throw error
    }
  }

  /**
   * Makes a set of experts current, between two runs. Of several quick calls the last one wins.
   * @throws {DOMException} `AbortError` if a later call overtook this one
   */
  async activate(choice: AttachedChoice, { signal }: { signal?: AbortSignal } = {}): Promise<SwitchReport> {
    const active: ActiveExpert[] =
      'release' in choice
        ? [{ expert: choice.id, weight: 1 }]
        : choice.map(({ expert, weight, binding }) => ({
            expert: expert.id,
            weight,
            ...(binding && { binding }),
          }))
    return this.#activate(active, signal)
  }

  /** Goes back to the base, bit for bit. */
  deactivate(): Promise<SwitchReport> {
    return this.#activate([])
  }

  stats(): EngineStats {
    return this.#host.stats()
  }

  /** A checksum of all weights in VRAM, computed there. */
  checksum(): Promise<string> {
    return this.#host.checksum()
  }

  /** SHA-256 of all weights read back from VRAM: slow, for tests and for doubt. */
  hashWeights(): Promise<string> {
    return this.#host.hashWeights()
  }

  /** Frees sessions and VRAM. The model cannot run any more. */
  async dispose(): Promise<void> {
    if (this.#disposed) return
    this.#disposed = true
    this.#fetches.dispose()
    await this.#host.runtime.exclusively(async () => {
      await this.#host.runtime.release()
      for (const session of Object.values(this.sessions)) await session.release?.()
      this.#host.destroy()
    })
    if (!this.#options.device) this.#host.gpu.device.destroy()
  }

  async #activate(active: readonly ActiveExpert[], signal?: AbortSignal): Promise<SwitchReport> {
    this.#check()
    try {
      return await this.#host.activate(active, signal)
    } catch (error) {
      const evicted = isTritswapError(error, 'released') ? error.fields.evicted : undefined
      if (!Array.isArray(evicted)) throw error
      for (const id of evicted as string[]) {
        await this.#fetch(id, this.#requests.get(id) as AttachedExpertRequest, {})
      }
      return this.#host.activate(active, signal)
    }
  }

  async #fetch(
    id: string,
    { source, rootHash, label, binding }: AttachedExpertRequest,
    options: { onProgress?: (progress: FetchProgress) => void; signal?: AbortSignal },
  ): Promise<ExpertInfo> {
    const file = this.#fetches.load({ source, rootHash, kind: 'expert', name: label ?? id }, options)
    const loaded = this.#receive(id, label, file, binding)
    try {
      const [{ uploadMs: upload, ...info }, { stats }] = await Promise.all([loaded, file.done])
      const phases = { fetch: stats.fetchMs + stats.cacheMs, verify: stats.verifyMs, upload }
      this.#host.loadedIn(id, phases)
      const { networkBytes, cacheBytes, requests } = stats
      return { ...info, timings: { ...phases, networkBytes, cacheBytes, requests } }
    } catch (error) {
      // Both ends of a load settle before it is reported, so that nothing of it goes on.
      await Promise.allSettled([loaded, file.done])
      throw isAbortError(error) && options.signal?.aborted ? options.signal.reason : error
    }
  }

  async #receive(
    id: string,
    label: string | undefined,
    { port, signal }: ReturnType<FetchPool['load']>,
    binding: BindingChoice | undefined,
  ) {
    const file = await receiveFile(port, signal)
    try {
      return await this.#host.load(id, label, file, binding)
    } finally {
      file.cancel()
    }
  }

  async #release(id: string): Promise<void> {
    if (!this.#requests.delete(id)) {
      throw new TritswapError('released', `Cannot use expert ${id}: it was released`, { fields: { id } })
    }
    this.#host.unload(id)
  }

  #freeId({ id, label, source }: AttachedExpertRequest): string {
    const file =
      typeof source === 'string' || source instanceof URL
        ? String(source)
            .split('/')
            .at(-1)
            ?.replace(/\.trit$/, '')
        : undefined
    const wanted = id ?? label ?? (file || 'expert')
    let free = wanted
    for (let n = 2; this.#requests.has(free); n++) free = `${wanted}#${n}`
    return free
  }

  #check(): void {
    if (this.#disposed) throw new TritswapError('released', 'Cannot use these experts: they were disposed')
  }
}

/** The sessions of a target, and what holds them. */
function sessionsOf(target: AttachTarget): {
  owner?: SessionsOwner
  sessions: Record<string, ConfiguredSession>
} {
  const holders = [target, (target as { model?: unknown }).model]
  for (const holder of holders) {
    const { sessions } = (holder ?? {}) as Partial<SessionsOwner>
    if (typeof sessions !== 'object' || sessions === null) continue
    const found = Object.entries(sessions).filter((entry): entry is [string, ConfiguredSession] =>
      isSession(entry[1]),
    )
    if (found.length > 0) return { owner: holder as SessionsOwner, sessions: Object.fromEntries(found) }
  }
  if (isSession(target)) return { sessions: { model: target } }
  throw new TritswapError(
    'input',
    'Cannot attach experts: expected a transformers.js model, a pipeline or an onnxruntime-web session',
  )
}

function isSession(value: unknown): value is ConfiguredSession {
  const { inputNames, run } = (value ?? {}) as Partial<OrtSession>
  return Array.isArray(inputNames) && typeof run === 'function'
}

interface OpenedBase {
  base: FilledBase
  graphs: Record<string, ReadyGraph>
  name: string
  fingerprint?: string
}

async function openBase(
  gpu: Gpu,
  sessions: Record<string, ConfiguredSession>,
  options: AttachOptions,
  fetches: FetchPool | LocalFetches,
): Promise<OpenedBase> {
  const { signal, graphs = {}, subfolder } = options
  const folder =
    options.model === undefined ? undefined : folderUrl(options.model, baseUrl(), options.fetch?.hub)
  const name = options.name ?? (folder === undefined ? 'the model' : folderName(folder))
  const manifest = folder === undefined ? undefined : await readModelManifest(folder, signal)
  const pathOf = (session: string) =>
    graphPath(
      moduleOf(session, Object.keys(sessions)),
      manifest?.dtype ?? options.dtype ?? sessions[session].config?.dtype ?? 'fp32',
      subfolder,
    )

  if (folder && manifest) {
    const file = fetches.load(
      {
        source: new URL(manifest.weights.file, folder).href,
        rootHash: manifest.weights.rootHash,
        kind: 'base',
        name,
      },
      options,
    )
    const filled = receiveFile(file.port, file.signal).then((incoming) =>
      readIntoVram(gpu, incoming, manifest.dtype, options),
    )
    const [base] = await Promise.all([filled, file.done])
    const ready: Record<string, ReadyGraph> = {}
    for (const session of Object.keys(sessions)) {
      const { file, bytes, external } = await fetchGraph(folder, pathOf(session), { signal })
      ready[session] = { file, bytes, external, externalFiles: externalFilesOf(bytes, file) }
    }
    return { base, graphs: ready, name, fingerprint: manifest.fingerprint }
  }

  const sources: Record<string, GraphSource> = {}
  for (const session of Object.keys(sessions)) {
    const given = graphs[session]
    if (given === undefined && folder === undefined) {
      throw new TritswapError(
        'input',
        `Cannot attach experts: the graph of session ${session} is not known; give the model's folder or graphs.${session}`,
        { fields: { session } },
      )
    }
    sources[session] =
      given === undefined
        ? await fetchGraph(folder as string, pathOf(session), {
            signal,
            onBytes: reporter(name, pathOf(session), options),
          })
        : await givenGraph(session, given, options)
  }
  const base = await hoistIntoVram(gpu, Object.values(sources), {
    signal,
    quantized: options.quantized,
    modelType: folder === undefined ? undefined : await modelTypeOf(folder, signal),
    onBytes: reporter(name, 'weights', options),
  })
  const ready = Object.entries(sources).map(([session, { file, external }]) => {
    const hoisted = base.graphs.find((graph) => graph.file === file)
    return [session, { ...hoisted, external }] as [string, ReadyGraph]
  })
  return { base, graphs: Object.fromEntries(ready), name }
}

function reporter(name: string, file: string, { onProgress }: AttachOptions) {
  const report = progressReporter(name, file, onProgress)
  return (loaded: number, total: number | undefined) => report('progress', 'network', loaded, total)
}

/** A graph that the caller has, or knows the place of. */
async function givenGraph(session: string, given: GraphSpec, options: AttachOptions): Promise<GraphSource> {
  const file = `${session}.onnx`
  const unknown = (location: string): never => {
    throw new TritswapError(
      'input',
      `Cannot read ${location} of session ${session}: give its bytes with the option external`,
      { fields: { session, location } },
    )
  }
  if (given instanceof Uint8Array) return { file, bytes: given, external: options.external ?? unknown }
  if (typeof given === 'string' || given instanceof URL) {
    const url = new URL(given, baseUrl())
    const graph = await fetchGraph(url.href, url.href, {
      signal: options.signal,
      onBytes: reporter(options.name ?? session, file, options),
    })
    return { ...graph, file, external: options.external ?? externalFiles(url.href) }
  }
  const size = await given.size()
  if (size === undefined) {
    throw new TritswapError('input', `Cannot read the graph of session ${session}: its size is not known`)
  }
  return { file, bytes: await given.read(0, size, options), external: options.external ?? unknown }
}

function baseUrl(): string {
  return globalThis.document?.baseURI ?? globalThis.location.href
}
