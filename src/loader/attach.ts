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
import { TritswapError } from '../errors.ts'
import { LocalFetches } from '../fetcher/local.ts'
import { FetchPool } from '../fetcher/pool.ts'
import type { SourceSpec } from '../fetcher/protocol.ts'
import { requestGpu, wrapDevice } from '../gpu/index.ts'
import { type ConfiguredSession, createLike } from '../model/create_session.ts'
import { ExpertHost } from '../model/expert_host.ts'
import type { AdapterInfo, EngineStats, SwitchReport } from '../model/expert_info.ts'
import type { ActivateOptions } from '../model/expert_runtime.ts'
import type { FilledBase } from '../model/filled_base.ts'
import type { OrtSession } from '../model/hoisted_session.ts'
import type { LoadedExperts } from '../model/loaded_experts.ts'
import { type AttachOptions, openBase } from './attached_base.ts'
import {
  activeOf,
  type Expert,
  type ExpertChoice,
  ExpertLibrary,
  type ExpertRequest,
  type LoadOptions,
} from './expert_library.ts'
import { DEFAULT_EXPERT_BUDGET } from './open_model.ts'
import { pageUrl } from './page_url.ts'

export type { ActivateOptions } from '../model/expert_runtime.ts'
export type { AttachOptions, GraphSpec } from './attached_base.ts'

/** What attaching needs of a transformers.js model. */
export interface SessionsOwner {
  sessions: Record<string, unknown>
}

/** A transformers.js model, a pipeline around one, or one onnxruntime-web `InferenceSession`. */
export type AttachTarget = SessionsOwner | { model: SessionsOwner } | object

/** Where an expert is, and what is known of it: the same as for an `ExpertLoader`. */
export type AttachedExpertRequest = ExpertRequest

/** An expert that was loaded: the same as of an `ExpertLoader`. */
export type AttachedExpert = Expert

/** One expert, several with weights, or none for the base. */
export type AttachedChoice = ExpertChoice

const attachedSessions = new WeakSet<object>()

/**
 * Moves the weights of running sessions into tritswap's own buffers, where experts can change them. The sessions are created
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
        baseUrl: pageUrl(),
      })
    : new LocalFetches(options.fetch, options.onWarning, pageUrl())
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
      ownPasses: true,
    })
    const proxies = host.runtime.sessions(created, host.runtime.passContext())
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
  readonly #library: ExpertLibrary<LoadedExperts>
  readonly #options: AttachOptions
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
    const home = async () => {
      if (this.#disposed) throw new TritswapError('released', 'Cannot use these experts: they were disposed')
      host.gpu.lost.throwIfAborted()
      return host.loaded
    }
    this.#library = new ExpertLibrary(fetches, home, {
      fingerprint: () => host.fingerprint,
      onWarning: options.onWarning,
    })
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
  async load(source: SourceSpec | AttachedExpertRequest, options?: LoadOptions): Promise<AttachedExpert> {
    return this.#library.load(source, options)
  }

  /**
   * Makes a set of experts current, between two runs. Of several quick calls the last one wins.
   * @throws {DOMException} `AbortError` if a later call overtook this one
   */
  async activate(choice: AttachedChoice, options: ActivateOptions = {}): Promise<SwitchReport> {
    return this.#library.activate(activeOf(choice), options)
  }

  /** Goes back to the base, bit for bit. */
  deactivate(options: ActivateOptions = {}): Promise<SwitchReport> {
    return this.#library.activate([], options)
  }

  stats(): EngineStats {
    return { ...this.#host.stats(), lastSwitch: this.#library.lastSwitch }
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
    const { runtime, gpu } = this.#host
    await runtime.exclusively(async () => {
      await runtime.releaseSessions()
      for (const session of Object.values(this.sessions)) await session.release?.()
      this.#host.destroy()
    })
    if (!this.#options.device) gpu.device.destroy()
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
