/**
 * The right expert for a text out of a registry: routed by its index, fetched, and put on.
 *
 * @module
 */
import type { SwitchReport } from '../engine/protocol.ts'
import { likelyNext, obtainBest } from '../route/fitting.ts'
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
  /**
   * Once the chosen expert is here, the runner-up is prefetched if it has no more bytes than this: 4 MiB by default, 0
   * leaves it on the server. What is prefetched counts towards the cache's budget.
   */
  prefetchBytes?: number
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
    const { signal, onProgress, activate = true, prefetchBytes } = options
    const registry = await this.#opened(options.registry, options)
    const route = await registry.route(text, options)
    const obtain = async (entry: RegistryEntry) =>
      this.#host.loaded(entry.rootHash) ?? (await this.#host.load(requestFor(entry), { signal, onProgress }))
    const { expert, entry, missed, why } = await obtainBest(route, registry, obtain, signal)
    const switched = activate ? await this.#host.activate(expert ?? [], { signal }) : undefined
    if (prefetchBytes !== 0) void this.#prefetchNext(route, registry, entry?.id, prefetchBytes)
    return {
      expert,
      entry,
      route,
      why,
      offline: missed !== undefined || registry.isCopy,
      ...(switched && { switched }),
    }
  }

  async #prefetchNext(route: Route, registry: OpenRegistry, chosen?: string, bytes?: number): Promise<void> {
    try {
      const next = await likelyNext(route, registry, chosen, bytes)
      if (next !== undefined) await this.#host.prefetch(requestFor(next))
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
