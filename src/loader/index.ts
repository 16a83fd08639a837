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

import type {
  ChatMessage,
  EngineStats,
  GenerateOptions,
  ModelInfo,
  Prompt,
  ScoredExample,
  SwitchReport,
  TextScore,
} from '../engine/protocol.ts'
import { TritswapError } from '../errors.ts'
import { FetchPool } from '../fetcher/pool.ts'
import type { SourceSpec } from '../fetcher/protocol.ts'
import { type Composition, composeWeights, type GroupWeights, type SearchOptions } from '../model/compose.ts'
import type { ActivateOptions } from '../model/expert_runtime.ts'
import type { Closeness } from '../model/score.ts'
import type { OpenRegistry } from '../route/open_registry.ts'
import type { Route } from '../route/route.ts'
import { folderUrl } from '../source/model_folder.ts'
import type { RegistryOptions } from '../source/registry.ts'
import { Assets } from './assets.ts'
import type { AttachedExperts, AttachOptions, AttachTarget } from './attach.ts'
import type { Availability } from './availability.ts'
import { Conversation, type ConversationHost, type ConversationOptions } from './conversation.ts'
import type { DownloadOptions } from './download_size.ts'
import {
  activeOf,
  type Expert,
  type ExpertChoice,
  ExpertLibrary,
  type ExpertRequest,
  type LoadOptions,
  requestOf,
  type WeightedExpert,
} from './expert_library.ts'
import { type EventStream, type Generation, StreamedGeneration } from './generation.ts'
import { NotedLoad } from './loads.ts'
import { type LoaderOptions, openModel } from './open_model.ts'
import { checkBrowser } from './page_url.ts'
import type { Retrieval, RetrieveOptions, Retriever, RouteOptions } from './retrieval.ts'
import { type EngineApi, RunningEngine } from './running_engine.ts'

export type * from '../engine/protocol.ts'
export { type ErrorTag, isAbortError, isTritswapError, TritswapError } from '../errors.ts'
export type { FetchProgress, FetchSettings, SourceSpec } from '../fetcher/protocol.ts'
export type {
  Candidate,
  CandidateName,
  Composition,
  Gain,
  GroupWeights,
  SearchOptions,
} from '../model/compose.ts'
export type { ActivateOptions } from '../model/expert_runtime.ts'
export type { Closeness } from '../model/score.ts'
export type { ListedExpert, OpenRegistry } from '../route/open_registry.ts'
export type { Ranked, Routable, Route } from '../route/route.ts'
export type { RegistryEntry, RegistryOptions } from '../source/registry.ts'
export type { AssetOptions } from './assets.ts'
export type {
  AttachedChoice,
  AttachedExpert,
  AttachedExpertRequest,
  AttachedExperts,
  AttachOptions,
  AttachTarget,
  GraphSpec,
} from './attach.ts'
export type { Availability } from './availability.ts'
export type { Conversation, ConversationOptions, TurnOptions } from './conversation.ts'
export type { DownloadOptions } from './download_size.ts'
export type {
  Expert,
  ExpertChoice,
  ExpertRequest,
  LoadOptions,
  ProgressCallback,
  WeightedExpert,
} from './expert_library.ts'
export type { Generation } from './generation.ts'
export type { LoaderOptions } from './open_model.ts'
export type { Retrieval, RetrieveOptions, RouteOptions } from './retrieval.ts'
export type { Turn } from './transcript.ts'

/**
 * Experts for sessions that you run yourself: moves their weights into tritswap's own buffers, where experts can change
 * them. The sessions are created anew from graphs without weights and take the places of the old ones; code that uses
 * the model goes on unchanged. Call it while nothing runs in them.
 *
 * @throws {TritswapError} `input` for a target without sessions or graphs that cannot be rewritten, `network`,
 * `webgpu`, `memory`; the sessions are as they were then
 */
export async function attachExperts(
  target: AttachTarget,
  options: AttachOptions = {},
): Promise<AttachedExperts> {
  // Rewriting graphs takes many times the code of the rest: it is loaded with the first call.
  const attach = await import('./attach.ts')
  return attach.attachExperts(target, options)
}

/**
 * Opens a registry, to list and search its experts, to route among them, and for {@link ExpertLoader.retrieve}.
 * @param url - of `experts.json`
 * @throws {TritswapError} `network`, `format`; `integrity` where it is not what the page holds to
 */
export async function openRegistry(url: string | URL, options: RegistryOptions = {}): Promise<OpenRegistry> {
  const registry = await import('../route/open_registry.ts')
  return registry.OpenRegistry.open(url, options)
}

export class ExpertLoader {
  readonly #pool: FetchPool
  readonly #engine: RunningEngine
  readonly #library: ExpertLibrary<EngineApi>
  #retrieving: Promise<Retriever> | undefined
  readonly #noted: NotedLoad

  private constructor(options: LoaderOptions) {
    const baseUrl = checkBrowser('Cannot load a base')
    const assets = new Assets(options, baseUrl)
    this.#noted = new NotedLoad(folderUrl(options.model, baseUrl, options.fetch?.hub))
    this.#pool = new FetchPool({
      createWorker: () => assets.start('fetcher'),
      settings: options.fetch,
      onWarning: options.onWarning,
      baseUrl,
    })
    this.#library = new ExpertLibrary(this.#pool, () => this.#engine.api(), {
      fingerprint: () => this.#engine.info.fingerprint,
      onWarning: options.onWarning,
    })
    this.#engine = new RunningEngine({
      createWorker: () => assets.start('engine'),
      open: (link, signal) => assets.guard(openModel(link, this.#pool, assets, options, signal)),
      explain: () => assets.check(),
      restore: (api) => this.#library.restore(api),
      onWarning: options.onWarning,
    })
  }

  /**
   * Loads the base into VRAM.
   * @throws {TritswapError} `webgpu`, `network`, `integrity`, `format`, `memory`, `unsupported` on a server; or the
   * signal's `AbortError`
   */
  static async create(options: LoaderOptions): Promise<ExpertLoader> {
    const loader = new ExpertLoader(options)
    try {
      await loader.#engine.start(options.signal)
      loader.#noted.loaded()
      return loader
    } catch (error) {
      await loader.dispose()
      throw error
    }
  }

  /**
   * Tells whether a base can be loaded here and how much that fetches, before anything of it is fetched; anywhere, also
   * on a server, where it is `unavailable`.
   * @param options - as `create` takes them
   */
  static async availability(options: DownloadOptions): Promise<Availability> {
    const { availability } = await import('./availability.ts')
    return availability(options)
  }

  get info(): ModelInfo {
    return this.#engine.info
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
    return this.#library.load(source, options)
  }

  /** Fills the cache with an expert while nothing else is going on; skipped where the visitor saves data. */
  async prefetch(source: SourceSpec | ExpertRequest, options: LoadOptions = {}) {
    const { source: from, rootHash, label } = requestOf(source)
    return this.#pool.prefetch({ source: from, rootHash, kind: 'expert', name: label }, options)
  }

  /**
   * Makes a set of experts current, between two tokens. Of several quick calls the last one wins.
   * @throws {DOMException} `AbortError` if a later call overtook this one
   */
  async activate(choice: ExpertChoice, options: ActivateOptions = {}): Promise<SwitchReport> {
    return this.#library.activate(activeOf(choice), options)
  }

  /**
   * Which expert a text is for, if any, by its likeness to the requests that each was made for. Nothing is loaded. With
   * `by: 'likelihood'`, as a check, by how likely the text is under each of some experts that are loaded.
   * @throws {TritswapError} `network`, `format`; `integrity` for a registry or an index that is not what it should be
   */
  async route(text: string, options: RouteOptions | LikelihoodOptions): Promise<Route> {
    if ('by' in options) {
      const { routeByLikelihood } = await import('./likelihood.ts')
      return routeByLikelihood(text, options.experts, this, options.threshold)
    }
    return (await this.#retriever()).route(text, options)
  }

  /**
   * Finds the expert that a text is for, fetches it and puts it on; where none fits, goes back to the base. Without a
   * network it takes what is kept on this device, and says so.
   *
   * ```ts
   * const { expert, why } = await loader.retrieve(question, { registry: 'experts/experts.json' })
   * ```
   * @throws as {@link route}, {@link load} and {@link activate}; what is in hand stays then
   */
  async retrieve(text: string, options: RetrieveOptions): Promise<Retrieval> {
    return (await this.#retriever()).retrieve(text, options)
  }

  /** Reading and checking registries takes as much code as the rest: it is loaded with the first call. */
  #retriever(): Promise<Retriever> {
    this.#retrieving ??= import('./retrieval.ts').then(
      ({ Retriever }) =>
        new Retriever({
          load: (request, load) => this.load(request, load),
          activate: (experts, call) => this.activate(experts, call),
          prefetch: (request) => this.prefetch(request),
          loaded: (rootHash) => this.#library.loaded(rootHash),
        }),
    )
    return this.#retrieving
  }

  /** Goes back to the base, bit for bit. */
  async deactivate(options: ActivateOptions = {}): Promise<SwitchReport> {
    return this.#library.activate([], options)
  }

  /**
   * Generates text: from a text, which it continues, or from messages, which the base's own chat template writes out.
   * Tokens come one by one, each with the set of experts that wrote it, and a reader that is slow holds the model back;
   * `result` has the whole.
   *
   * ```ts
   * const { text } = await loader.generate([{ role: 'user', content: 'Name a river.' }]).result
   * ```
   *
   * Reading it rejects with {@link TritswapError}: `input` for an empty prompt, options out of range, a prompt that is
   * longer than the context (without `truncate`), or messages that the template refuses; `unsupported` for messages
   * where the tokenizer has no template; `released`, `device-lost`, `worker`; and with `AbortError`.
   * @param options - `experts` binds experts to this call only; without it the call follows `activate`
   */
  generate(
    prompt: string | readonly ChatMessage[],
    options: GenerateOptions & { experts?: ExpertChoice; signal?: AbortSignal } = {},
  ): Generation {
    const start = async () => {
      const system = this.#library.settingsFor(options).system
      return this.#stream(withSystem(prompt, system, options.system !== undefined), options)
    }
    return new StreamedGeneration(start, options.signal)
  }

  /**
   * A conversation: each turn reads only what is new, over one KV cache. Its system message is chosen when it begins:
   * that of the options, else of the expert in use.
   */
  conversation(options: ConversationOptions = {}): Conversation {
    const host: ConversationHost = {
      generate: (request, turn) => this.#stream(request, turn),
      systemOf: (turn) => this.#library.settingsFor(turn).system,
      end: async (id) => {
        await (await this.#engine.running())?.endConversation(id)
      },
    }
    return new Conversation(host, options)
  }

  async #stream(
    prompt: Prompt,
    options: GenerateOptions & { experts?: ExpertChoice; signal?: AbortSignal },
  ): Promise<EventStream> {
    const { signal = new AbortController().signal, experts, ...call } = options
    const active = experts && activeOf(experts)
    const { system: _, ...settings } = { ...this.#library.settingsFor({ ...call, experts }) }
    return this.#library.run([active ?? []], (api) =>
      api.generate(prompt, { ...settings, experts: active }, signal),
    )
  }

  /** Logits after the last token of a prompt. */
  async logits(prompt: string, experts?: ExpertChoice): Promise<Float32Array> {
    const active = experts && activeOf(experts)
    return this.#library.run([active ?? []], (api) => api.logits(prompt, active))
  }

  async tokenize(text: string): Promise<number[]> {
    return (await this.#engine.api()).tokenize(text)
  }

  /** Bits that the model needs for a window of up to 256 tokens, the first of which is given. */
  async score(tokens: readonly number[], experts?: ExpertChoice): Promise<TextScore> {
    const active = experts && activeOf(experts)
    return this.#library.run([active ?? []], (api) => api.score(tokens, active))
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
    const [expected, ...rest] = [reference, ...others].map(activeOf)
    return this.#library.run([expected, ...rest], (api) => api.compare(tokens, expected, rest))
  }

  /**
   * Searches weights for experts that together do best on a few examples, and says whether that beats the best of them
   * alone: often it does not. Nothing becomes active; `activate(composed.choice)` does that.
   * With `groups`, it searches on for weights that differ by groups of layers.
   * @param examples - five or more chats that end with the wanted answer, or texts
   * @throws {TritswapError} `input` for more than 16 experts, more groups than the base has layers, or examples with nothing to predict, `unsupported` for chats
   * where the tokenizer has no template; or the signal's reason
   */
  async compose(
    experts: readonly Expert[],
    examples: readonly ScoredExample[],
    { system, ...options }: ComposeOptions = {},
  ): Promise<Composed> {
    const signal = options.signal ?? new AbortController().signal
    const choiceOf = (weights: readonly number[], groups?: GroupWeights): WeightedExpert[] =>
      experts.flatMap((expert, i): WeightedExpert[] => {
        if (groups !== undefined)
          return groups[i].some((weight) => weight !== 0) ? [{ expert, weight: 1, groups: groups[i] }] : []
        return weights[i] === 0 ? [] : [{ expert, weight: weights[i] }]
      })
    const composition = await composeWeights(
      experts.length,
      (weights, groups) => {
        const active = activeOf(choiceOf(weights, groups))
        return this.#library.run([active], (api) => api.scoreExamples(examples, system, active, signal))
      },
      options,
    )
    return { ...composition, choice: choiceOf(composition.weights, composition.groups) }
  }

  async stats(): Promise<EngineStats> {
    const stats = await (await this.#engine.api()).stats()
    return { ...stats, lastSwitch: this.#library.lastSwitch }
  }

  /**
   * Gives back the VRAM that nothing in use needs: experts that are not active, what was unpacked of them, and what is kept
   * for the next switch. An expert that a call needs again comes from the cache.
   * @returns bytes
   */
  async trim(): Promise<number> {
    return (await (await this.#engine.running())?.trim()) ?? 0
  }

  /**
   * Gives all VRAM back, for a page that is hidden or idle: the base goes too, and so does the engine. The next call takes it
   * up again, from the cache where the browser has one, with the same experts active and conversations read anew.
   * Generations under way end with `released`.
   */
  async rest(): Promise<void> {
    await this.#engine.rest()
  }

  /** A checksum of all weights in VRAM, computed there. */
  async checksum(): Promise<string> {
    return (await this.#engine.api()).checksum()
  }

  /** SHA-256 of all weights read back from VRAM: slow, for tests and for doubt. */
  async hashWeights(): Promise<string> {
    return (await this.#engine.api()).hashWeights()
  }

  /** Frees everything: VRAM, workers, pending calls. */
  async dispose(): Promise<void> {
    this.#noted.gone()
    this.#pool.dispose()
    await this.#engine.dispose()
  }
}

/** How to route by likelihood. */
export interface LikelihoodOptions {
  by: 'likelihood'
  /** Whom to compare: a pass of the model for each, and one for the base. */
  experts: readonly Expert[]
  /** Bits a token that an expert must save over the base; 0.05 by default. */
  threshold?: number
}

/** How {@link ExpertLoader.compose} searches. */
export interface ComposeOptions extends SearchOptions {
  /** System message of chats that have none. */
  system?: string
}

/** What {@link ExpertLoader.compose} found. */
export interface Composed extends Composition {
  /** What won, for `activate` and for calls: the base where it is empty. */
  choice: WeightedExpert[]
}

/**
 * Messages with a system message before them, unless they have one.
 * @param isAsked - whether the caller gave it, who must not give it beside a text
 */
function withSystem(
  prompt: string | readonly ChatMessage[],
  system: string | undefined,
  isAsked: boolean,
): string | readonly ChatMessage[] {
  if (typeof prompt === 'string') {
    if (!isAsked) return prompt
    throw new TritswapError('input', 'Cannot use a system message with a text: give messages as the prompt')
  }
  if (!system || prompt.some(({ role }) => role === 'system')) return prompt
  return [{ role: 'system', content: system }, ...prompt]
}
