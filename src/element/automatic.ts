/**
 * Who answers a request, where the visitor leaves that to the element: the pen of the registry whose requests are like it.
 *
 * @module
 */

import type { OpenRegistry } from '../route/open_registry.ts'
import type { Route } from '../route/route.ts'
import type { FetchedRegistry, RegistryEntry, RegistryOptions } from '../source/registry.ts'

/** A pen that was found for a request, and why it is this one. */
export interface Found {
  /** Its id; '' for the base. */
  id: string
  /** In plain words. */
  why: string
  /** Something was out of reach, and what is kept on this device was used. */
  offline: boolean
}

/** What finding a pen asks of the switcher. */
export interface AutomaticHost {
  /** Brings an expert into VRAM. @throws what loading throws */
  obtain(entry: RegistryEntry): Promise<void>
  /** Fills the cache with an expert. */
  prefetch(entry: RegistryEntry): Promise<unknown>
}

export class Automatic {
  readonly #host: AutomaticHost
  #read?: [FetchedRegistry, RegistryOptions]
  #opened?: Promise<OpenRegistry>
  /** What is typed while a text before it is still looked at. */
  #typed?: string
  #looking = false
  readonly #ahead = new Set<string>()

  constructor(host: AutomaticHost) {
    this.#host = host
  }

  /** Chooses among the experts of another registry from now on. */
  use(registry: FetchedRegistry, options: RegistryOptions): void {
    this.#read = [registry, options]
    this.#opened = undefined
  }

  /** The registry; undefined before it was read. */
  get registry(): Promise<OpenRegistry> | undefined {
    if (this.#read === undefined) return undefined
    // Reading an index takes as much code as the rest of the element: it is loaded with the first request.
    const [registry, options] = this.#read
    this.#opened ??= import('../route/open_registry.ts').then((module) =>
      module.OpenRegistry.of(registry, options),
    )
    return this.#opened
  }

  /**
   * Finds the pen that a text is for, and brings it into VRAM.
   * @returns undefined where there is no registry
   * @throws what the index or the expert throws
   */
  async find(text: string, signal: AbortSignal): Promise<Found | undefined> {
    const registry = await this.registry
    if (registry === undefined) return undefined
    const { obtainBest } = await import('../route/fitting.ts')
    const route = await registry.route(text, { signal })
    const obtain = (entry: RegistryEntry) => this.#host.obtain(entry)
    const { entry, missed, why } = await obtainBest(route, registry, obtain, signal)
    void this.#fetchNext(route, registry, entry?.id)
    const offline = missed !== undefined || registry.isCopy
    return {
      id: entry?.id ?? '',
      why: offline && missed === undefined ? `${why} (offline: by the list that is kept here)` : why,
      offline,
    }
  }

  /** Fetches ahead what a text is for while it is still being typed. */
  async foresee(text: string): Promise<void> {
    this.#typed = text
    if (this.#looking) return
    this.#looking = true
    try {
      const registry = await this.registry
      for (let typed = ''; registry !== undefined && typed !== this.#typed; ) {
        typed = this.#typed
        await this.#fetchNext(await registry.route(typed), registry, undefined)
      }
    } catch {
      // It is said when the text is sent.
    } finally {
      this.#looking = false
    }
  }

  async #fetchNext(route: Route, registry: OpenRegistry, chosen: string | undefined): Promise<void> {
    try {
      const { likelyNext } = await import('../route/fitting.ts')
      const next = await likelyNext(route, registry, chosen)
      if (next === undefined || this.#ahead.has(next.rootHash)) return
      this.#ahead.add(next.rootHash)
      await this.#host.prefetch(next)
    } catch {
      // It is fetched when it is asked for.
    }
  }
}
