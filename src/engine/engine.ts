/**
 * The engine: the one thread with a GPUDevice. Base weights and experts come to it from the fetch workers over ports
 * of their own; the page calls it by comlink and gets text, reports and errors back.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import type { FetchProgress } from '../fetcher/protocol.ts'
import type { ExampleBits } from '../model/compose.ts'
import type { BindingChoice } from '../model/expert_bindings.ts'
import type { ExpertHost } from '../model/expert_host.ts'
import type { MeasuredTimes, PassContext, Switched } from '../model/expert_runtime.ts'
import type { LoadedInfo } from '../model/loaded_experts.ts'
import { type Closeness, closeness, scoreWindow, type WindowLogits } from '../model/score.ts'
import type { KvCache } from './kv_cache.ts'
import type { OpenModel, OpenRequest, OpenUnpreparedRequest } from './open_model.ts'
import type { ActiveExpert, ModelInfo, Prompt, ScoredExample, TextScore, TurnRequest } from './protocol.ts'
import { Reading } from './reading.ts'
import {
  type GenerationEvent,
  type NaturalEnd,
  type StreamOptions,
  streamTokens,
  type TokenStream,
} from './token_stream.ts'

/** How models are opened: `open_model.ts`, which tests do without. */
export type Openers = Pick<typeof import('./open_model.ts'), 'openPrepared' | 'openUnprepared'>

export class Engine {
  readonly #openers: Openers
  #opening: Promise<OpenModel> | undefined
  #open: OpenModel | undefined
  readonly #streams = new Set<TokenStream>()
  /** What conversations have read, by their ids. */
  readonly #caches = new Map<string, KvCache>()
  #disposed = false

  constructor(openers: Openers) {
    this.#openers = openers
  }

  /** @see openPrepared */
  async open(
    request: OpenRequest,
    port: MessagePort,
    signal: AbortSignal,
    onLost: (message: string) => void,
  ): Promise<ModelInfo> {
    return this.#start(() => this.#openers.openPrepared(request, port, signal, this.#unlessDisposed(onLost)))
  }

  /** @see openUnprepared */
  async openUnprepared(
    request: OpenUnpreparedRequest,
    signal: AbortSignal,
    onLost: (message: string) => void,
    onProgress: (progress: FetchProgress) => void,
  ): Promise<ModelInfo> {
    return this.#start(() =>
      this.#openers.openUnprepared(request, signal, this.#unlessDisposed(onLost), onProgress),
    )
  }

  /** @see LoadedExperts.load */
  async load(
    id: string,
    label: string | undefined,
    port: MessagePort,
    signal: AbortSignal,
    binding?: BindingChoice,
    pinned?: readonly string[],
  ): Promise<LoadedInfo> {
    return this.#model().host.loaded.load(id, label, port, signal, binding, pinned)
  }

  /** @see LoadedExperts.adopt */
  adopt(
    id: string,
    label: string | undefined,
    rootHash: string,
    binding?: BindingChoice,
  ): LoadedInfo | undefined {
    return this.#model().host.loaded.adopt(id, label, rootHash, binding)
  }

  /** @see LoadedExperts.unload */
  unload(id: string): void {
    this.#open?.host.loaded.unload(id)
  }

  /** @see LoadedExperts.activate */
  async activate(active: readonly ActiveExpert[], timed: boolean, signal: AbortSignal): Promise<Switched> {
    const { runtime, loaded } = this.#model().host
    return runtime.activate(loaded.set(active), { signal, timed })
  }

  /** @see ExpertRuntime.measured */
  measured(set: number): Promise<MeasuredTimes | undefined> {
    return this.#model().host.runtime.measured(set)
  }

  /** @see streamTokens */
  generate(
    prompt: Prompt,
    options: StreamOptions,
    signal: AbortSignal,
  ): AsyncIterableIterator<GenerationEvent, NaturalEnd | undefined> {
    const { host, text } = this.#model()
    const cache = isTurn(prompt) ? this.#cacheOf(prompt.conversation, text) : undefined
    const stream = streamTokens(host, text, prompt, options, signal, cache)
    this.#streams.add(stream)
    stream.ended.finally(() => this.#streams.delete(stream))
    return stream.events
  }

  /** Frees the KV cache of a conversation. None of its turns may be generated now. */
  async endConversation(id: string): Promise<void> {
    const cache = this.#caches.get(id)
    this.#caches.delete(id)
    await cache?.clear()
  }

  /** Logits after the last token of a prompt, f32. */
  async logits(prompt: string, experts: readonly ActiveExpert[] | undefined): Promise<Float32Array> {
    const tokens = this.#model().text.encode(prompt)
    return this.#run([experts], async ([pass]) => {
      const { data, vocabulary } = await pass(tokens)
      return data.slice(-vocabulary)
    })
  }

  /**
   * Bits that the model needs for one window of a text, as `npm run eval` counts them.
   * @param tokens - a window of `WINDOW_TOKENS` or fewer
   */
  async score(tokens: readonly number[], experts: readonly ActiveExpert[] | undefined): Promise<TextScore> {
    const { text } = this.#model()
    return this.#run([experts], async ([pass]) => {
      const { data, vocabulary } = await pass(tokens)
      const { bits } = scoreWindow(data, vocabulary, tokens)
      const bytes = new TextEncoder().encode(text.decode(tokens.slice(1))).length
      return { bits, bytes, tokens: tokens.length - 1 }
    })
  }

  /**
   * Bits that the model needs for the answers of chats, and for all but the first token of texts.
   * @param system - for chats that have no system message of their own
   * @throws {TritswapError} `input` for an example with nothing to predict or longer than the context, `unsupported` for
   * chats where the tokenizer has no template
   */
  async scoreExamples(
    examples: readonly ScoredExample[],
    system: string | undefined,
    experts: readonly ActiveExpert[],
    signal: AbortSignal,
  ): Promise<ExampleBits[]> {
    const { host, text } = this.#model()
    const encoded = examples.map((example) => text.example(example, system))
    const prompted = new Reading()
    const context = host.runtime.passContext(host.loaded.set(experts), { acts: prompted.acts })
    try {
      const sessions = host.runtime.sessions(text.sessions, context)
      const front = () => {
        prompted.place(context.wanted)
        return prompted.front
      }
      const reading = { front, stops: () => prompted.stops(context.wanted), readFrom: prompted.readFrom }
      const scores: ExampleBits[] = []
      for (const { ids, first } of encoded) {
        signal.throwIfAborted()
        // An answer cannot invoke an expert; a text is a request as a whole.
        prompted.begin(first > 1 ? ids.slice(0, first) : ids)
        const { data, vocabulary } = await text.logits(ids, sessions, reading)
        const predicted = data.subarray((first - 1) * vocabulary)
        scores.push(scoreWindow(predicted, vocabulary, ids.slice(first - 1)))
      }
      return scores
    } finally {
      context.end()
    }
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
    return this.#run([reference, ...others], async ([first, ...rest]) => {
      const expected = await first(tokens)
      const results: Closeness[] = []
      for (const pass of rest) results.push(closeness(expected, await pass(tokens), tokens.length))
      return results
    })
  }

  tokenize(text: string): number[] {
    return this.#model().text.encode(text)
  }

  stats(): ReturnType<ExpertHost['stats']> {
    return this.#model().host.stats()
  }

  /** @see ExpertHost.trim */
  async trim(): Promise<number> {
    return this.#model().host.trim()
  }

  /** @see ExpertHost.checksum */
  async checksum(): Promise<string> {
    return this.#model().host.checksum()
  }

  /** @see ExpertHost.hashWeights */
  async hashWeights(): Promise<string> {
    return this.#model().host.hashWeights()
  }

  /** Frees VRAM and device once the forward passes under way are over; generations end with `released`. */
  async dispose(): Promise<void> {
    this.#disposed = true
    const open = this.#open
    this.#open = undefined
    if (!open) return
    for (const { stop } of this.#streams)
      stop(new TritswapError('released', 'Cannot go on: the loader was disposed'))
    await Promise.all(Array.from(this.#streams, ({ ended }) => ended))
    for (const id of [...this.#caches.keys()]) await this.endConversation(id)
    await open.host.runtime.exclusively(async () => {
      await open.host.runtime.releaseSessions()
      await open.text.dispose()
      open.host.destroy()
      open.gpu.device.destroy()
    })
  }

  async #start(open: () => Promise<OpenModel>): Promise<ModelInfo> {
    if (this.#opening)
      throw new TritswapError('input', 'Cannot open a second model: make another loader for it')
    this.#opening = open()
    try {
      this.#open = await this.#opening
      return this.#open.info
    } catch (error) {
      this.#opening = undefined
      throw error
    }
  }

  #unlessDisposed(onLost: (message: string) => void): (message: string) => void {
    return (message) => {
      if (!this.#disposed) onLost(message)
    }
  }

  /** Runs a task with one forward pass for each set. The experts of every set stay in VRAM until its pass is over. */
  async #run<T>(
    sets: readonly (readonly ActiveExpert[] | undefined)[],
    task: (passes: ((tokens: readonly number[]) => Promise<WindowLogits>)[]) => Promise<T>,
  ): Promise<T> {
    const { host, text } = this.#model()
    const { runtime, loaded } = host
    const contexts: PassContext[] = []
    try {
      const passes = sets.map((set) => {
        const prompted = new Reading()
        const context = runtime.passContext(set && loaded.set(set), { acts: prompted.acts })
        contexts.push(context)
        return async (tokens: readonly number[]) => {
          prompted.begin(tokens)
          const stops = () => {
            const found = prompted.stops(context.wanted)
            // All parts are read by the set that the first of them is.
            if (found.length > 0 && set === undefined) context.pin()
            return found
          }
          const front = () => {
            prompted.place(context.wanted)
            return prompted.front
          }
          const reading = { front, stops, readFrom: prompted.readFrom }
          const logits = await text.logits(tokens, runtime.sessions(text.sessions, context), reading)
          context.end()
          return logits
        }
      })
      return await task(passes)
    } finally {
      for (const context of contexts) context.end()
    }
  }

  #cacheOf(conversation: string, text: OpenModel['text']): KvCache {
    const cache = this.#caches.get(conversation) ?? text.newCache()
    this.#caches.set(conversation, cache)
    return cache
  }

  #model(): OpenModel {
    if (!this.#open) throw new TritswapError('released', 'Cannot use this engine: no model is open in it')
    return this.#open
  }
}

function isTurn(prompt: Prompt): prompt is TurnRequest {
  return typeof prompt === 'object' && 'conversation' in prompt
}
