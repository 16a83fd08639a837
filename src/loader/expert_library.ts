/**
 * The experts of one model as its user sees them: ids, handles and the set that was chosen. Wherever they live (the
 * engine worker, or a host on this thread), an expert that is not in VRAM any more is loaded again when a call needs it.
 *
 * @module
 */
import type { GenerateOptions } from '../engine/protocol.ts'
import { isAbortError, isTritswapError, TritswapError } from '../errors.ts'
import type { FetchHandle, FetchOptions } from '../fetcher/pool.ts'
import type { FetchProgress, FetchRequest, SourceSpec } from '../fetcher/protocol.ts'
import { evictedIn } from '../model/evicted.ts'
import type { ActiveExpert, BindingChoice, ExpertInfo, SwitchReport } from '../model/expert_info.ts'
import type { ActivateOptions, MeasuredTimes, Switched } from '../model/expert_runtime.ts'
import type { LoadedInfo } from '../model/loaded_experts.ts'
import { overtaken } from '../model/overtaken.ts'
import { transfer } from '../rpc/index.ts'
import type { GenerationSettings } from '../source/generation_settings.ts'

export type ProgressCallback = (progress: FetchProgress) => void

/** Where an expert is, and what is known of it: a registry entry will do. */
export interface ExpertRequest {
  source: SourceSpec
  /** What to call it in tokens and reports; unique in this loader. */
  id?: string
  label?: string
  /** Known from a registry, it authenticates every byte before it is used. */
  rootHash?: string
  /** What a registry says of the base that its experts are for: one with another fingerprint refuses them. */
  base?: { name?: string; fingerprint?: string }
  /**
   * How it meets the base, unless an activation says otherwise: `auto` (the default) takes what costs least, `merge`
   * changes the weights in place, `side` and `input` leave them alone.
   */
  binding?: BindingChoice
  /** Why it must not be used any more, as a registry says: it is refused. */
  withdrawn?: string
  /** What chats with it begin with, in place of what its file says. */
  system?: string
  /** How text is generated with it where a call does not say, before what its file says. */
  generation?: GenerationSettings
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

/** An expert of a choice. */
export interface WeightedExpert {
  expert: Expert
  weight: number
  /**
   * What the weight is multiplied with in each of a number of groups of layers, from the first layer to the last: `[1, 0]` is the
   * lower half of the layers alone. Groups are of equally many layers; embeddings, heads and what else is in no layer go with the
   * last.
   */
  groups?: readonly number[]
  binding?: BindingChoice
}

/** One expert, several with weights, or none for the base. */
export type ExpertChoice = Expert | readonly WeightedExpert[]

/** Where experts live: the engine behind its link, or `LoadedExperts` on this thread. */
export interface ExpertHome {
  load(
    id: string,
    label: string | undefined,
    port: MessagePort,
    signal: AbortSignal,
    binding?: BindingChoice,
    pinned?: readonly string[],
  ): Promise<LoadedInfo>
  adopt(
    id: string,
    label: string | undefined,
    rootHash: string,
    binding?: BindingChoice,
  ): Promise<LoadedInfo | undefined> | LoadedInfo | undefined
  activate(active: readonly ActiveExpert[], timed: boolean, signal: AbortSignal): Promise<Switched>
  measured(set: number): Promise<MeasuredTimes | undefined>
  unload(id: string): Promise<void> | void
}

/** What starts loads of files: a `FetchPool`, or `LocalFetches`. */
export interface ExpertFetches {
  load(request: FetchRequest, options: FetchOptions): FetchHandle
}

export interface LibraryOptions {
  /** Fingerprint of the base, where it is known. */
  fingerprint?: () => string | undefined
  onWarning?: (message: string) => void
}

interface Handle<H> {
  request: ExpertRequest
  expert: Expert
  /** The home that it was loaded into last; any other one must load it first. */
  home: H
  /** It was evicted from there. */
  isLost?: boolean
  /** A load of it under way, for all calls that wait for it, and the home that it goes to. */
  reload?: { home: H; done: Promise<void> }
  /** Phases of its load in ms, until a switch has reported them. */
  unreported?: LoadPhases
}

type LoadPhases = Pick<SwitchReport['phases'], 'fetch' | 'verify' | 'upload'>

/** Calls at the same time can evict each other's experts: a call that loses its own so often gives up. */
const MAX_ATTEMPTS = 4

export class ExpertLibrary<H extends ExpertHome> {
  readonly #fetches: ExpertFetches
  readonly #home: () => Promise<H>
  readonly #options: LibraryOptions
  /** Root hashes of experts of which a warning has said that their base is unknown. */
  readonly #doubted = new Set<string>()
  readonly #handles = new Map<string, Handle<H>>()
  /** Ids of experts on their way. */
  readonly #loading = new Set<string>()
  /** The set that `activate` asked for last: a new home starts with it. */
  #chosen: readonly ActiveExpert[] = []
  #tickets = 0
  #lastSwitch: SwitchReport | undefined

  /** @param home - where experts live now; it may be another one after each call */
  constructor(fetches: ExpertFetches, home: () => Promise<H>, options: LibraryOptions = {}) {
    this.#options = options
    this.#fetches = fetches
    this.#home = home
  }

  get lastSwitch(): SwitchReport | undefined {
    return this.#lastSwitch
  }

  /**
   * Fetches an expert and keeps it in VRAM, compressed.
   * @throws {TritswapError} `network`, `integrity`, `format`, `limit`, `base`, `mapping`, `memory`; the base and what
   * is loaded stay as they were
   */
  async load(source: SourceSpec | ExpertRequest, options: LoadOptions = {}): Promise<Expert> {
    const request = requestOf(source)
    const home = await this.#home()
    const id = this.#freeId(request)
    this.#checkRegistry(request, id)
    this.#loading.add(id)
    try {
      const { info, phases } = await this.#fetch(home, id, request, options)
      this.#warnOfUnknownBase(info)
      const expert: Expert = {
        ...info,
        system: request.system ?? info.system,
        generation: { ...info.generation, ...request.generation },
        release: () => this.#release(id),
      }
      this.#handles.set(id, { request, expert, home, unreported: phases })
      return expert
    } finally {
      this.#loading.delete(id)
    }
  }

  /** @throws {TritswapError} `base`, `unsupported` for one that was withdrawn */
  #checkRegistry({ base, label, withdrawn }: ExpertRequest, id: string): void {
    if (withdrawn !== undefined) {
      throw new TritswapError(
        'unsupported',
        `Cannot use ${label ?? id}: it was withdrawn (${withdrawn}); choose another one, or an earlier release`,
        { fields: { expert: id, withdrawn } },
      )
    }
    const found = this.#options.fingerprint?.()
    if (base?.fingerprint === undefined || found === undefined || base.fingerprint === found) return
    throw new TritswapError(
      'base',
      `Cannot use ${label ?? id}: expected the base ${base.name ?? ''} ${base.fingerprint.slice(0, 12)} as its registry says, found ${found.slice(0, 12)}; load the base that the registry is for`,
      { fields: { expert: id, expected: base.fingerprint, found } },
    )
  }

  #warnOfUnknownBase({ label, rootHash, baseMatch }: ExpertInfo): void {
    if (baseMatch !== 'unknown' || this.#doubted.has(rootHash)) return
    this.#doubted.add(rootHash)
    this.#options.onWarning?.(
      `Whether ${label} was made for this base is unknown: its names and shapes fit, but it carries neither a fingerprint nor a sketch that could be compared; compress it with its base at hand`,
    )
  }

  /** The expert that was loaded from a file and is not released. @param rootHash - of the file */
  loaded(rootHash: string): Expert | undefined {
    return [...this.#handles.values()].find(({ expert }) => expert.rootHash === rootHash)?.expert
  }

  /**
   * Makes a set of experts current, between two tokens. Of several quick calls the last one wins.
   * @throws {DOMException} `AbortError` if a later call overtook this one
   */
  async activate(
    active: readonly ActiveExpert[],
    { signal = new AbortController().signal, timed = false }: ActivateOptions = {},
  ): Promise<SwitchReport> {
    const ticket = ++this.#tickets
    for (let attempt = 1; ; attempt++) {
      const home = await this.#homeWith([active], async (full) => {
        if (ticket !== this.#tickets || this.#chosen.length === 0) return false
        // The set before this one holds the room: it goes first.
        await full.activate([], false, signal)
        this.#chosen = []
        return true
      })
      // Loading experts again takes time, in which a later call may have switched already.
      if (ticket !== this.#tickets) throw overtaken()
      try {
        const switched = await home.activate(active, timed, signal)
        this.#chosen = active
        this.#lastSwitch = this.#report(active, switched)
        return timed ? await measure(this.#lastSwitch, home) : this.#lastSwitch
      } catch (error) {
        this.#noteEvicted(error, attempt)
      }
    }
  }

  /** Options of a call, with what the expert in use says where they do not: of several the one with the largest weight. */
  settingsFor<O extends GenerateOptions & { experts?: ExpertChoice }>(options: O): Omit<O, 'experts'> {
    const { experts, ...call } = options
    const active = experts === undefined ? this.#chosen : activeOf(experts)
    const [first] = active.toSorted((a, b) => strengthOf(b) - strengthOf(a))
    // One that was released may still be active.
    const expert = first && this.#handles.get(first.expert)?.expert
    const given = Object.fromEntries(Object.entries(call).filter(([, value]) => value !== undefined))
    return { ...expert?.generation, system: expert?.system, ...given } as Omit<O, 'experts'>
  }

  /** Calls the home with sets of experts, and again once those are loaded that it has evicted. */
  async run<T>(sets: readonly (readonly ActiveExpert[])[], call: (home: H) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      const home = await this.#homeWith(sets)
      try {
        return await call(home)
      } catch (error) {
        this.#noteEvicted(error, attempt)
      }
    }
  }

  /** Brings a new home to where the last one was: to the base if an expert of its set was released since. */
  async restore(home: H): Promise<void> {
    const ids = this.#chosen.map(({ expert }) => expert)
    if (ids.some((id) => !this.#handles.has(id))) this.#chosen = []
    if (this.#chosen.length === 0) return
    await this.#bring(home, ids)
    await home.activate(this.#chosen, false, new AbortController().signal)
  }

  /**
   * The home, with all experts of some sets in it as far as is known here.
   * @param makeRoom - called where only what is active leaves no room for them; whether it is worth another try
   */
  async #homeWith(
    sets: readonly (readonly ActiveExpert[])[],
    makeRoom?: (home: H) => Promise<boolean>,
  ): Promise<H> {
    const ids = [...new Set(sets.flatMap((set) => set.map(({ expert }) => expert)))]
    for (const id of ids) this.#handle(id)
    const home = await this.#home()
    try {
      await this.#bring(home, ids)
    } catch (error) {
      if (!this.#couldFit(ids, error) || !(await makeRoom?.(home))) throw error
      await this.#bring(home, ids)
    }
    return home
  }

  /** Notes which experts are to be loaded again. @throws the error, if it says something else, or has said so too often */
  #noteEvicted(error: unknown, attempt: number): void {
    const evicted = evictedIn(error)
    if (evicted === undefined || attempt === MAX_ATTEMPTS) throw error
    for (const id of evicted) this.#handle(id).isLost = true
  }

  /** Loads what a home does not have; while one of the experts is loaded, none of the others is evicted for it. */
  async #bring(home: H, ids: readonly string[]): Promise<void> {
    for (const id of ids) {
      const handle = this.#handle(id)
      while (handle.home !== home || handle.isLost) {
        handle.reload ??= {
          home,
          done: this.#reload(home, id, handle, ids).finally(() => {
            handle.reload = undefined
          }),
        }
        const { reload } = handle
        // What fails on the way to another home says nothing of this one.
        await reload.done.catch((error: unknown) => {
          if (reload.home === home) throw error
        })
      }
    }
  }

  async #reload(home: H, id: string, handle: Handle<H>, pinned: readonly string[]): Promise<void> {
    const request = { ...handle.request, rootHash: handle.expert.rootHash }
    const { phases } = await this.#fetch(home, id, request, {}, pinned)
    handle.home = home
    handle.isLost = false
    handle.unreported = phases
    // Released while it was on its way: its id may be another expert's by now.
    if (!this.#handles.has(id)) await home.unload(id)
  }

  async #fetch(
    home: H,
    id: string,
    { source, rootHash, label, binding }: ExpertRequest,
    { onProgress, signal }: LoadOptions,
    pinned: readonly string[] = [],
  ): Promise<{ info: ExpertInfo; phases: LoadPhases }> {
    const hasTwin = [...this.#handles].some(
      ([other, handle]) => other !== id && handle.home === home && handle.expert.rootHash === rootHash,
    )
    const adopted = hasTwin && rootHash && (await home.adopt(id, label, rootHash, binding))
    if (adopted) {
      const { uploadMs: upload, ...info } = adopted
      const phases = { fetch: 0, verify: 0, upload }
      return {
        info: { ...info, timings: { ...phases, networkBytes: 0, cacheBytes: 0, requests: 0 } },
        phases,
      }
    }
    // A fetch worker waits for a reader that is gone, so the load ends with its home.
    const unread = new AbortController()
    const file = this.#fetches.load(
      { source, rootHash, kind: 'expert', name: label ?? id },
      { onProgress, signal: AbortSignal.any([unread.signal, ...(signal ? [signal] : [])]) },
    )
    const loaded = home.load(id, label, transfer(file.port, [file.port]), file.signal, binding, pinned)
    loaded.catch((error) => unread.abort(error))
    try {
      const [{ uploadMs: upload, ...info }, { stats }] = await Promise.all([loaded, file.done])
      const phases = { fetch: stats.fetchMs + stats.cacheMs, verify: stats.verifyMs, upload }
      const { networkBytes, cacheBytes, requests } = stats
      return { info: { ...info, timings: { ...phases, networkBytes, cacheBytes, requests } }, phases }
    } catch (error) {
      // Both ends of a load settle before it is reported, so that nothing of it goes on.
      await Promise.allSettled([loaded, file.done])
      throw isAbortError(error) && signal?.aborted ? (signal.reason as Error) : error
    }
  }

  /** The report of a switch, with the load phases that no switch before it has reported. */
  #report(active: readonly ActiveExpert[], { set, apply, total, sessions }: Switched): SwitchReport {
    const phases = { fetch: 0, verify: 0, upload: 0, apply }
    for (const { expert } of active) {
      const handle = this.#handles.get(expert)
      if (handle?.unreported === undefined) continue
      phases.fetch += handle.unreported.fetch
      phases.verify += handle.unreported.verify
      phases.upload += handle.unreported.upload
      handle.unreported = undefined
    }
    return {
      set,
      experts: active,
      sessions,
      phases,
      total: phases.fetch + phases.verify + phases.upload + total,
    }
  }

  /** Whether experts that were refused for want of room would have it if no others were in use. */
  #couldFit(ids: readonly string[], error: unknown): boolean {
    if (!isTritswapError(error, 'memory') || typeof error.fields.budget !== 'number') return false
    const bytes = ids.reduce((sum, id) => sum + this.#handle(id).expert.residentBytes, 0)
    return bytes <= error.fields.budget
  }

  async #release(id: string): Promise<void> {
    const { home } = this.#handle(id)
    this.#handles.delete(id)
    try {
      await home.unload(id)
    } catch {
      // A home that is gone holds nothing any more.
    }
  }

  #handle(id: string): Handle<H> {
    const handle = this.#handles.get(id)
    if (!handle)
      throw new TritswapError('released', `Cannot use expert ${id}: it was released`, { fields: { id } })
    return handle
  }

  #freeId({ id, label, source }: ExpertRequest): string {
    const wanted = id ?? label ?? (fileName(source) || 'expert')
    let free = wanted
    for (let n = 2; this.#handles.has(free) || this.#loading.has(free); n++) free = `${wanted}#${n}`
    return free
  }
}

/** The largest weight of an expert anywhere. */
function strengthOf({ weight, groups = [1] }: ActiveExpert): number {
  return Math.abs(weight) * Math.max(...groups.map(Math.abs))
}

/** A choice as plain data. */
export function activeOf(choice: ExpertChoice): ActiveExpert[] {
  return 'release' in choice
    ? [{ expert: choice.id, weight: 1 }]
    : choice.map(({ expert, weight, groups, binding }) => ({
        expert: expert.id,
        weight,
        ...(groups && { groups: [...groups] }),
        ...(binding && { binding }),
      }))
}

export function requestOf(source: SourceSpec | ExpertRequest): ExpertRequest {
  return typeof source === 'object' && 'source' in source ? source : { source }
}

/** The last part of an address, without `.trit`. */
function fileName(source: SourceSpec): string | undefined {
  if (typeof source !== 'string' && !(source instanceof URL)) return undefined
  return String(source)
    .split('/')
    .at(-1)
    ?.replace(/\.trit$/, '')
}

/** Adds to a report what the switch took to the end of the GPU's work. A home that ends meanwhile cannot tell. */
async function measure(report: SwitchReport, home: ExpertHome): Promise<SwitchReport> {
  const times = await home.measured(report.set).catch(() => undefined)
  if (times === undefined) return report
  report.total += times.apply - report.phases.apply
  report.phases.apply = times.apply
  report.gpuMs = times.gpuMs
  return report
}
