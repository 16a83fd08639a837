/**
 * A registry that is open: its first entries are here, the others come a page at a time, and its index answers who they are
 * and whom a text is for. Everything beside `experts.json` is checked against the hashes in it.
 *
 * @module
 */
import { inSteps } from '../async/in_steps.ts'
import { TritswapError } from '../errors.ts'
import { sha256, toHex } from '../format/sha256.ts'
import { type FileOptions, fetchKept } from '../source/kept_file.ts'
import {
  type FetchedRegistry,
  parseRegistry,
  type RegistryEntry,
  type RegistryFile,
  type RegistryOptions,
  readRegistry,
  resolvedEntries,
} from '../source/registry.ts'
import { MAX_INDEX_BYTES, type RegistryIndex, readingIndex } from './index_file.ts'
import { namesBySamples, type Route, type RoutedNames, routing } from './route.ts'

/** A page has some hundred entries with long texts. */
const MAX_PAGE_BYTES = 16 << 20

/** An expert in a list: its place in the registry leads to its entry. */
export interface ListedExpert {
  id: string
  label: string
  /** Place in the registry. */
  at: number
}

export class OpenRegistry {
  /** Absolute. */
  readonly url: string
  /** The server was out of reach when it was opened: this is what was kept of it. */
  readonly isCopy: boolean
  /** The entries in `experts.json` itself: all of them, unless there are many. */
  readonly experts: readonly RegistryEntry[]
  readonly #registry: FetchedRegistry
  readonly #files: FileOptions
  readonly #pages = new Map<number, Promise<RegistryEntry[]>>()
  #index: Promise<RegistryIndex> | undefined
  /** For want of an index. */
  #samples: Promise<RoutedNames> | undefined

  private constructor(registry: FetchedRegistry, files: FileOptions) {
    this.#registry = registry
    this.#files = files
    this.url = registry.url
    this.isCopy = registry.isCopy
    this.experts = registry.experts
  }

  /**
   * @param url - of `experts.json`
   * @throws {TritswapError} `network`, `format`; `integrity` where it is not what the page holds to
   */
  static async open(url: string | URL, options: RegistryOptions = {}): Promise<OpenRegistry> {
    return OpenRegistry.of(await readRegistry(url, options), options)
  }

  /** Opens a registry that was read and checked before. @param options - as it was read with */
  static of(registry: FetchedRegistry, options: RegistryOptions = {}): OpenRegistry {
    const { integrity: _, signedBy: __, signal: ___, ...files } = options
    return new OpenRegistry(registry, files)
  }

  /** Experts in all. */
  get count(): number {
    return (this.#registry.pages ?? []).reduce((sum, { count }) => sum + count, this.experts.length)
  }

  /** Whether the index has been fetched, or need not be: a list of names is at hand. */
  get hasIndex(): boolean {
    return this.#registry.index !== undefined
  }

  /**
   * Whom a text is for. Fetches the index the first time; without one it routes by the samples of the entries that are here.
   * @throws {TritswapError} `network`; `integrity` or `format` for an index that does not fit the registry
   */
  async route(
    text: string,
    { signal, threshold }: { signal?: AbortSignal; threshold?: number } = {},
  ): Promise<Route> {
    const names = this.#registry.index === undefined ? await this.#sampled() : await this.#named(signal)
    return inSteps(routing(text, names, threshold))
  }

  async #named(signal?: AbortSignal): Promise<RoutedNames> {
    const { experts, table } = await this.#indexed(signal)
    return {
      table,
      idOf: (owner) => experts[owner]!.id,
      labelOf: (owner) => experts[owner]!.label,
      isWithdrawn: (owner) => this.experts[owner]?.withdrawn !== undefined,
    }
  }

  #sampled(): Promise<RoutedNames> {
    this.#samples ??= inSteps(namesBySamples(this.experts))
    return this.#samples
  }

  /**
   * Names that hold all of some words, in the order of the registry; without words, all of them.
   * @param limit - of names
   * @throws as {@link route}
   */
  async search(
    words: string,
    { limit = 100, from = 0, signal }: { limit?: number; from?: number; signal?: AbortSignal } = {},
  ): Promise<ListedExpert[]> {
    const wanted = words.toLowerCase().split(/\s+/).filter(Boolean)
    const listed = this.#registry.index === undefined ? this.experts : (await this.#indexed(signal)).experts
    const found: ListedExpert[] = []
    let met = 0
    for (const [at, { id, label }] of listed.entries()) {
      const name = wanted.length === 0 ? '' : `${id} ${label}`.toLowerCase()
      if (!wanted.every((word) => name.includes(word)) || met++ < from) continue
      found.push({ id, label, at })
      if (found.length === limit) break
    }
    return found
  }

  /**
   * Entries from one place up to another, as `slice` counts; only the pages that they lie in are fetched.
   * @throws {TritswapError} `network`; `integrity` or `format` for a page that is not the one that the registry names
   */
  async entries(from: number, to: number, signal?: AbortSignal): Promise<RegistryEntry[]> {
    const found: RegistryEntry[] = this.experts.slice(from, to)
    let start = this.experts.length
    for (const [at, { count }] of (this.#registry.pages ?? []).entries()) {
      if (start < to && start + count > from)
        found.push(...(await this.#page(at, signal)).slice(Math.max(0, from - start), to - start))
      start += count
    }
    return found
  }

  /**
   * The entry with an id.
   * @throws {TritswapError} `input` for an id that is not listed; as {@link entries}
   */
  async entry(id: string, signal?: AbortSignal): Promise<RegistryEntry> {
    const here = this.experts.find((each) => each.id === id)
    if (here !== undefined) return here
    if (this.#registry.index !== undefined) {
      const at = (await this.#indexed(signal)).experts.findIndex((each) => each.id === id)
      const [entry] = at < 0 ? [] : await this.entries(at, at + 1, signal)
      if (entry !== undefined && entry.id !== id)
        throw this.#unfit(`it has ${id} where the registry has ${entry.id}`)
      if (entry !== undefined) return entry
    } else {
      for (const at of (this.#registry.pages ?? []).keys()) {
        const entry = (await this.#page(at, signal)).find((each) => each.id === id)
        if (entry !== undefined) return entry
      }
    }
    throw new TritswapError('input', `Cannot find ${id}: ${this.url} does not list it`, {
      fields: { id, url: this.url },
    })
  }

  #indexed(signal?: AbortSignal): Promise<RegistryIndex> {
    this.#index ??= this.#fetchIndex(signal).catch((error: unknown) => {
      this.#index = undefined
      throw error
    })
    return this.#index
  }

  async #fetchIndex(signal?: AbortSignal): Promise<RegistryIndex> {
    const file = this.#registry.index!
    const bytes = await this.#fetch(file, MAX_INDEX_BYTES, signal)
    const index = await inSteps(readingIndex(bytes, file.url))
    if (index.experts.length !== this.count)
      throw this.#unfit(`it names ${index.experts.length} experts, the registry ${this.count}`)
    const stranger = this.experts.findIndex(({ id }, at) => index.experts[at]!.id !== id)
    if (stranger >= 0)
      throw this.#unfit(
        `it has ${index.experts[stranger]!.id} where the registry has ${this.experts[stranger]!.id}`,
      )
    return index
  }

  #unfit(what: string): TritswapError {
    const { url } = this.#registry.index!
    return new TritswapError('format', `Cannot use the index ${url}: ${what}; build the registry again`, {
      fields: { url, registry: this.url },
    })
  }

  #page(at: number, signal?: AbortSignal): Promise<RegistryEntry[]> {
    const known = this.#pages.get(at)
    if (known !== undefined) return known
    const page = this.#fetchPage(at, signal)
    this.#pages.set(at, page)
    page.catch(() => this.#pages.delete(at))
    return page
  }

  async #fetchPage(at: number, signal?: AbortSignal): Promise<RegistryEntry[]> {
    const page = this.#registry.pages![at]!
    const bytes = await this.#fetch(page, MAX_PAGE_BYTES, signal)
    const { experts } = parseRegistry(new TextDecoder().decode(bytes), page.url)
    if (experts.length !== page.count) {
      throw new TritswapError(
        'format',
        `Cannot read ${page.url}: expected ${page.count} experts, found ${experts.length}; build the registry again`,
        {
          fields: { url: page.url },
        },
      )
    }
    return resolvedEntries({ version: 1, base: this.#registry.base, experts }, this.url)
  }

  /** @throws {TritswapError} `integrity` for other bytes than the registry names */
  async #fetch(
    { url, bytes, sha256: expected }: RegistryFile,
    limit: number,
    signal?: AbortSignal,
  ): Promise<Uint8Array<ArrayBuffer>> {
    const check = async (found: Uint8Array<ArrayBuffer>) => {
      const hash = toHex(await sha256(found))
      if (hash === expected) return
      throw new TritswapError(
        'integrity',
        `Cannot use ${url}: expected SHA-256 ${expected.slice(0, 12)}… as ${this.url} says, found ${hash.slice(0, 12)}…; it belongs to another registry, or was changed`,
        { fields: { url, registry: this.url, expected, found: hash } },
      )
    }
    const file = await fetchKept(url, Math.min(limit, bytes), check, { ...this.#files, signal })
    return file.bytes
  }
}
