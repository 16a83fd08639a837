/**
 * The right expert for a text out of a registry: routed by its index, fetched, and put on.
 *
 * @module
 */
import type { SwitchReport } from '../engine/protocol.ts'
import { isTritswapError } from '../errors.ts'
import { OpenRegistry } from '../route/open_registry.ts'
import { type Routable, type Route, routeAmong } from '../route/route.ts'
import type { RegistryEntry, RegistryOptions } from '../source/registry.ts'
import type { Expert, ExpertRequest, LoadOptions } from './expert_library.ts'

/** Whom to route among: a registry, or experts that are at hand. */
export interface RouteOptions extends Pick<RegistryOptions, 'integrity' | 'signedBy'> {
  /** Address of `experts.json`, or a registry that is open. */
  registry?: string | URL | OpenRegistry
  /** Registry entries, or anything else with samples of its requests. */
  experts?: readonly Routable[]
  /** Score that an expert must reach; 0.04 by default. */
  threshold?: number
  signal?: AbortSignal
}

export interface RetrieveOptions extends Omit<RouteOptions, 'experts'>, LoadOptions {
  registry: string | URL | OpenRegistry
  /** False leaves what is in hand as it is: give the expert to `generate`, for one call. */
  activate?: boolean
  /** False leaves the runner-up on the server; otherwise it is prefetched once the chosen expert is here. */
  prefetch?: boolean
}

/** What came of a retrieval. */
export interface Retrieval {
  /** The expert that fits, loaded; undefined where the base answers. */
  expert: Expert | undefined
  /** Its entry in the registry. */
  entry: RegistryEntry | undefined
  route: Route
  /** Who answers and why, in plain words; also where what fits best is out of reach. */
  why: string
  /** Something was out of reach, and what is kept on this device was used. */
  offline: boolean
  /** What putting it on took, or taking off what was on before. */
  switched?: SwitchReport
}

/** What a retrieval asks of a loader. */
export interface RetrievalHost {
  load(request: ExpertRequest, options: LoadOptions): Promise<Expert>
  activate(experts: Expert | readonly [], options: { signal?: AbortSignal }): Promise<SwitchReport>
  prefetch(request: ExpertRequest): Promise<unknown>
  /** An expert that was loaded from a file and not released. */
  loaded(rootHash: string): Expert | undefined
}

export class Retriever {
  readonly #host: RetrievalHost
  /** By address and what the page holds to. */
  readonly #registries = new Map<string, Promise<OpenRegistry>>()

  constructor(host: RetrievalHost) {
    this.#host = host
  }

  async route(text: string, { registry, experts, ...options }: RouteOptions): Promise<Route> {
    if (registry === undefined) return routeAmong(text, experts ?? [], options.threshold)
    return (await this.#opened(registry, options)).route(text, options)
  }

  async retrieve(text: string, options: RetrieveOptions): Promise<Retrieval> {
    const { signal, onProgress, activate = true, prefetch = true } = options
    const registry = await this.#opened(options.registry, options)
    const route = await registry.route(text, options)
    const { expert, entry, missed } = await this.#firstOf(route, registry, { signal, onProgress })
    const switched = activate ? await this.#host.activate(expert ?? [], { signal }) : undefined
    if (prefetch) void this.#prefetchNext(route, registry, expert?.rootHash)
    return {
      expert,
      entry,
      route,
      why: missed === undefined ? route.why : outOfReach(missed, entry),
      offline: missed !== undefined || registry.isCopy,
      ...(switched && { switched }),
    }
  }

  /** The best of those that fit and can be had: on a line that is down, what is kept here. */
  async #firstOf(route: Route, registry: OpenRegistry, options: LoadOptions) {
    let missed: string | undefined
    for (const { id, label, score } of route.ranking) {
      if (score < route.threshold) break
      try {
        const entry = await registry.entry(id, options.signal)
        const expert = this.#host.loaded(entry.rootHash)
        if (entry.withdrawn !== undefined) continue
        return { expert: expert ?? (await this.#host.load(requestFor(entry), options)), entry, missed }
      } catch (error) {
        if (!isOutOfReach(error)) throw error
        missed ??= label ?? id
      }
    }
    return { expert: undefined, entry: undefined, missed }
  }

  /** The likely next one: who came second, if that one fits as well. */
  async #prefetchNext(route: Route, registry: OpenRegistry, chosen: string | undefined): Promise<void> {
    try {
      for (const { id, score } of route.ranking) {
        if (score < route.threshold) return
        const entry = await registry.entry(id)
        if (entry.rootHash === chosen || entry.withdrawn !== undefined) continue
        await this.#host.prefetch(requestFor(entry))
        return
      }
    } catch {
      // It is fetched when it is asked for.
    }
  }

  #opened(
    registry: string | URL | OpenRegistry,
    { integrity, signedBy, signal }: Pick<RegistryOptions, 'integrity' | 'signedBy' | 'signal'>,
  ): Promise<OpenRegistry> {
    if (registry instanceof OpenRegistry) return Promise.resolve(registry)
    const url = new URL(registry, globalThis.document?.baseURI).href
    const key = JSON.stringify([url, integrity, signedBy])
    const known = this.#registries.get(key)
    if (known !== undefined) return known
    const opened = OpenRegistry.open(url, { integrity, signedBy, signal, keep: true })
    this.#registries.set(key, opened)
    opened.catch(() => this.#registries.delete(key))
    return opened
  }
}

/** A registry entry as a loader takes it. */
function requestFor(entry: RegistryEntry): ExpertRequest {
  const { url, id, label, rootHash, base, system, generation, withdrawn } = entry
  return { source: url, id, label, rootHash, base, system, generation, withdrawn }
}

/** No server answered: another answer may come, but not now. */
function isOutOfReach(error: unknown): boolean {
  return isTritswapError(error, 'network') && error.fields.status === undefined
}

function outOfReach(missed: string, entry: RegistryEntry | undefined): string {
  return `${missed} fits and is out of reach: ${
    entry === undefined ? 'the base answers' : `${entry.label}, which is kept on this device, answers`
  }`
}
