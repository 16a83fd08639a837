/**
 * A causal language model driven by unmodified transformers.js, over sessions that its caller chooses for each call.
 *
 * @module
 */
import {
  AutoModelForCausalLM,
  AutoTokenizer,
  env,
  InterruptableStoppingCriteria,
  type PreTrainedModel,
  type PreTrainedTokenizer,
  Tensor,
} from '@xenova/transformers'
import { abortError, TritswapError } from '../errors.ts'
import { virtualIds } from '../format/invocation.ts'
import { GRAPH_FOLDER } from '../model/graph_path.ts'
import { hoistedSession, type OrtSession } from '../model/hoisted_session.ts'
import { stopsOf } from '../source/generation_settings.ts'
import { chatExample, type Example } from './answered_example.ts'
import { checkOptions, type GenerationConfig, settingsOf } from './call_settings.ts'
import { ChatTemplate, type Room } from './chat_template.ts'
import { GeneratedText } from './generated_text.ts'
import { type AnswerMask, Grammars, vocabularyOf } from './grammar.ts'
import { KvCache } from './kv_cache.ts'
import type { EncodedPrompt, GenerateOptions, Prompt, ScoredExample } from './protocol.ts'
import { answerSchema } from './response_format.ts'
import { samplers } from './sampling.ts'

/** Reads a file of the model folder; `undefined` where there is none. */
export type ModelFiles = (path: string) => Promise<Response | undefined>

/** Where onnxruntime-web's wasm and its glue code are served. */
export interface OrtPaths {
  mjs: string
  wasm: string
}

/**
 * Called with each token as it is sampled, before the next forward pass begins. `true` asks for a fresh reading of the
 * whole context before the next token. `text` is what the token settles, `read` how many tokens the forward pass read.
 */
export type OnToken = (token: number, text: string, read: number) => boolean

/** Who reads a prompt, where that is not one set of experts all along. */
export interface PromptReading {
  /** How many virtual tokens stand before the prompt; asked each time before the context is read from its start. */
  front(): number
  /** Positions, with the virtual tokens, from which on another set reads, ascending; asked each time that the context is read from its start. */
  stops(): readonly number[]
  /** The next pass reads from a position on. */
  readFrom(position: number): void
  /** Whether what a set read before at a position may stay in the cache. */
  keeps(position: number, reader: string): boolean
  /** A part of the prompt was read, of this many tokens. */
  onPart(tokens: number, isVirtual: boolean): void
}

export interface GenerateContext {
  signal?: AbortSignal
  cache?: KvCache
  reading?: PromptReading
  /** Tokens at the end of the prompt that are the beginning of the text. */
  answer?: number
}

interface ReadContext extends Pick<GenerateContext, 'signal' | 'cache'> {
  settings: { repetitionPenalty: number }
  processors?: ReturnType<typeof samplers>
}

/** transformers.js asks for `<localModelPath><id>/<file>`: from this pair its `fetch` tells the files of the model. */
const LOCAL_ROOT = '/tritswap-model/'
const MODEL_ID = 'model'
const DEFAULT_CONTEXT = 2048

type Sessions = Record<string, OrtSession>

/** What is used of `config.json`. */
interface ModelSizes {
  max_position_embeddings?: number
  n_positions?: number
  vocab_size?: number
}

export class TextModel {
  readonly contextLength: number
  readonly chat: ChatTemplate
  readonly #tokenizer: PreTrainedTokenizer
  readonly #model: PreTrainedModel
  readonly #device: GPUDevice | undefined
  readonly #grammars: Grammars

  private constructor(
    tokenizer: PreTrainedTokenizer,
    model: PreTrainedModel,
    device: GPUDevice | undefined,
    grammar: string | undefined,
  ) {
    this.#tokenizer = tokenizer
    this.#model = model
    this.#device = device
    this.chat = new ChatTemplate(tokenizer)
    const config = model.config as unknown as ModelSizes
    this.#grammars = new Grammars(grammar, () => vocabularyOf(tokenizer, config.vocab_size))
    this.contextLength = config.max_position_embeddings ?? config.n_positions ?? DEFAULT_CONTEXT
  }

  /** @throws {TritswapError} `unsupported` for anything but a causal language model */
  static check(modelType: string, name: string): void {
    if (AutoModelForCausalLM.supports(modelType)) return
    throw new TritswapError(
      'unsupported',
      `Cannot write text with ${name}: a ${modelType} model is no causal language model; load it with transformers.js and give it to attachExperts`,
      { fields: { model: name, modelType } },
    )
  }

  /**
   * Loads tokenizer, configuration and graph. The weights that the graph lacks are fed later, by the sessions that a call
   * brings.
   */
  static async load(options: {
    files: ModelFiles
    /** Where they are by default, without it. */
    ort?: OrtPaths
    /** Address of the library of grammars, without which answers are text. */
    grammar?: string
    /** Without one the model runs on the CPU. */
    device?: GPUDevice
    dtype: string
    /** Folder of the graph in the model folder. */
    subfolder?: string
    /** Data files of the graph, by the name that it calls them; config.json may tell of those of another graph. */
    externalFiles?: readonly string[]
    /** File of the chat template where the tokenizer's configuration holds none; transformers.js does not look for one. */
    templateFile?: string
  }): Promise<TextModel> {
    const { device, subfolder = GRAPH_FOLDER, externalFiles = [] } = options
    configure(options.files, options.ort)
    const tokenizer = await AutoTokenizer.from_pretrained(MODEL_ID).catch(badTokenizer)
    if (!tokenizer.chat_template && options.templateFile !== undefined) {
      const text = await (await options.files(options.templateFile))?.text()
      // Some servers answer with a page where there is no file.
      if (text !== undefined && /\{[{%]/.test(text)) tokenizer.chat_template = text
    }
    const model = await AutoModelForCausalLM.from_pretrained(MODEL_ID, {
      device: device ? 'webgpu' : 'wasm',
      dtype: options.dtype as 'fp32',
      session_options: {
        // The device that experts and weights are on: onnxruntime-web only borrows it.
        ...(device && { executionProviders: [{ name: 'webgpu', device } as never] }),
        // A string instead of bytes is a path that transformers.js reads.
        externalData: externalFiles.map((path) => ({ path, data: `${subfolder}/${path}` })) as never,
      },
      subfolder,
      use_external_data_format: false,
    })
    return new TextModel(tokenizer, model, device, options.grammar)
  }

  /** The sessions as transformers.js made them, by its own names (`model`, `decoder_model_merged`, …). */
  get sessions(): Sessions {
    return this.#model.sessions as Sessions
  }

  /** The same model over other sessions: every call brings its own, so that each has its experts. */
  #over(sessions: Sessions): PreTrainedModel {
    return Object.create(this.#model, { sessions: { value: sessions } }) as PreTrainedModel
  }

  encode(text: string): number[] {
    return this.#tokenizer.encode(text)
  }

  /** @throws {TritswapError} `input` for a text of one token, and as {@link chatExample} */
  example(example: ScoredExample, system?: string): Example {
    if (typeof example !== 'string') return chatExample(example, this.chat, system)
    const ids = this.encode(example)
    if (ids.length > 1) return { ids, first: 1 }
    throw new TritswapError(
      'input',
      `Cannot score the text ${JSON.stringify(example)}: expected 2 tokens or more, found ${ids.length}`,
    )
  }

  decode(tokens: number[]): string {
    return tokens.length === 0
      ? ''
      : this.#tokenizer.decode(tokens, {
          skip_special_tokens: true,
          // Spaces before punctuation are text: in source code above all.
          clean_up_tokenization_spaces: false,
        })
  }

  /**
   * A prompt as the model reads it. Where it may be cut (`truncate`), it is cut so that the new tokens fit the context too;
   * at least half of the context stays for it.
   * @throws {TritswapError} `input` for an empty prompt, one that leaves no room for a token, and settings out of range;
   * `unsupported` for messages where the tokenizer has no template, and for a schema that no grammar can enforce
   */
  encodePrompt(prompt: Prompt, options: GenerateOptions): EncodedPrompt {
    checkOptions(options)
    answerSchema(options.responseFormat)
    const encoded = this.#encodeWithin(prompt, options)
    if (encoded.ids.length === 0)
      throw new TritswapError('input', 'Cannot generate from an empty prompt: write a word or two')
    return encoded
  }

  #encodeWithin(prompt: Prompt, options: GenerateOptions): EncodedPrompt {
    const { contextLength, chat } = this
    const { truncate } = options
    const room: Room | undefined = truncate && {
      end: truncate,
      tokens: Math.max(
        contextLength - settingsOf(options, this.#config).maxNewTokens,
        Math.ceil(contextLength / 2),
      ),
    }
    if (typeof prompt === 'string') {
      const ids = this.encode(prompt)
      if (room === undefined || ids.length <= room.tokens) return this.#checked({ ids })
      const kept = room.end === 'start' ? ids.slice(-room.tokens) : ids.slice(0, room.tokens)
      return { ids: kept, truncated: { end: room.end, tokens: ids.length - kept.length } }
    }
    if (!('conversation' in prompt)) {
      return room === undefined
        ? this.#checked({ ids: chat.encode(prompt) })
        : chat.encodeWithin(prompt, room)
    }
    const { context, messages, answer } = prompt
    if (messages.length === 0) {
      const text = this.#generatedText(options, context.slice(context.length - answer))
      return this.#checked({ ids: [...context], answer: text.shown })
    }
    const next = context.length === 0 ? chat.encode(messages) : chat.encodeNext(messages, context.at(-1))
    const ids = [...context, ...next]
    if (room === undefined || ids.length <= room.tokens) return this.#checked({ ids })
    const { ids: kept } = chat.encodeWithin(messages, room)
    return { ids: kept, truncated: { end: room.end, tokens: Math.max(ids.length - kept.length, 0) } }
  }

  #checked(prompt: EncodedPrompt): EncodedPrompt {
    const { length } = prompt.ids
    if (length < this.contextLength) return prompt
    throw new TritswapError(
      'input',
      `Cannot generate: the prompt has ${length} tokens, and the context of this base holds ${this.contextLength} with those to generate; shorten it, or say with truncate which end of it may be cut`,
      { fields: { promptTokens: length, contextLength: this.contextLength } },
    )
  }

  /**
   * Generates text after a prompt.
   * @param cache - holds what was read before, and what is read now; without it nothing is kept
   * @returns why it ended
   * @throws {DOMException} `AbortError` once the signal is aborted, after the forward pass under way
   */
  async generate(
    prompt: EncodedPrompt,
    sessions: Sessions,
    onToken: OnToken,
    options: GenerateOptions = {},
    context: GenerateContext = {},
  ): Promise<'stop' | 'length'> {
    context.signal?.throwIfAborted()
    const { answer = 0 } = context
    const schema = answerSchema(options.responseFormat)
    const mask = schema && (await this.#grammars.answer(schema, [...this.#endTokens(options)]))
    try {
      for (const token of prompt.ids.slice(prompt.ids.length - answer)) mask?.accept(token)
      await mask?.settled
      return await this.#write(prompt.ids, sessions, onToken, options, { ...context, mask })
    } finally {
      mask?.dispose()
    }
  }

  async #write(
    prompt: readonly number[],
    sessions: Sessions,
    onToken: OnToken,
    options: GenerateOptions,
    { signal, cache: given, reading, answer = 0, mask }: GenerateContext & { mask?: AnswerMask },
  ): Promise<'stop' | 'length'> {
    const ids = [...prompt]
    const settings = settingsOf(options, this.#config)
    const wanted = ids.length + settings.maxNewTokens
    let end = Math.min(wanted, this.contextLength)
    const text = this.#generatedText(options, ids.slice(ids.length - answer))
    const ends = this.#endTokens(options)
    const processors = samplers(settings, mask && ((logits) => mask.apply(logits)))
    const masked = mask ? withMask(sessions, mask) : sessions
    let finish: 'stop' | 'length' | undefined = ids.length < end ? undefined : 'length'
    if (mask?.isOver) finish = 'stop'
    let cache = given
    try {
      // Once for each time that the context is read from its start.
      while (finish === undefined) {
        const before = ids.length
        const front = virtualPlaces(reading?.front() ?? 0)
        this.#checkRoom(front, ids)
        end = Math.min(wanted, this.contextLength - front.length)
        const context = () => (front.length === 0 ? ids : [...front, ...ids])
        await cache?.rewindTo(context(), reading && ((position, reader) => reading.keeps(position, reader)))
        // Parts of a prompt follow one another over a cache.
        if (reading !== undefined && reading.stops().length > 0) cache ??= this.newCache()
        let isReadAgain = false
        let read = 0
        const take = (token: number) => {
          cache?.noteRead(context())
          if (signal?.aborted) return false
          ids.push(token)
          mask?.accept(token)
          if (ends.has(token) || mask?.isOver) finish = 'stop'
          else if (ids.length >= end) finish = 'length'
          const piece = finish === 'stop' ? text.flush() : text.next(token)
          if (text.stopped) finish = 'stop'
          const rest = finish === 'length' ? text.flush() : ''
          isReadAgain = onToken(token, piece + rest, read) && finish === undefined
          read = 1
          reading?.readFrom(front.length + ids.length - 1)
          return isReadAgain || finish !== undefined
        }
        try {
          if (reading !== undefined && cache !== undefined)
            await this.#readParts(context(), sessions, reading, { settings, signal, cache })
          const { length } = cache ?? []
          reading?.readFrom(length)
          read = front.length + ids.length - length
          await this.#read(context(), end - before, masked, take, { settings, processors, signal, cache })
        } catch (error) {
          // What a pass that failed left in the cache is unknown.
          if (!signal?.aborted) await cache?.clear()
          throw error
        }
        if (isReadAgain && reading === undefined) await cache?.clear()
        // The base's own settings can end it too.
        else if (!isReadAgain) finish ??= 'stop'
      }
      return finish
    } finally {
      if (cache !== given) await cache?.clear()
    }
  }

  /**
   * Reads a prompt up to where the last of its sets begins to read, which is then left to read.
   * @throws {TritswapError} `unsupported` for a graph without a cache
   */
  async #readParts(
    ids: readonly number[],
    sessions: Sessions,
    reading: PromptReading,
    context: ReadContext & { cache: KvCache },
  ): Promise<void> {
    const { cache } = context
    for (const stop of reading.stops()) {
      const { length } = cache
      if (stop <= length) continue
      const part = ids.slice(0, stop)
      reading.readFrom(length)
      // What would follow here is not asked for.
      await this.#read(part, 1, sessions, () => true, context)
      if (cache.isEmpty) throw noCache()
      cache.noteRead(part)
      reading.onPart(stop - length, isVirtual(part[stop - 1]))
    }
  }

  /** @throws {TritswapError} `input` for a prompt that fits the context, and not with the virtual tokens before it */
  #checkRoom(front: readonly number[], ids: readonly number[]): void {
    if (front.length === 0 || front.length + ids.length < this.contextLength) return
    throw new TritswapError(
      'input',
      `Cannot generate: the prompt has ${ids.length} tokens, the expert puts ${front.length} virtual ones before it, and the context of this base holds ${this.contextLength} with those to generate; shorten it`,
      { fields: { promptTokens: ids.length, virtual: front.length, contextLength: this.contextLength } },
    )
  }

  /** One uninterrupted run of transformers.js' own loop over one KV cache. */
  async #read(
    ids: readonly number[],
    newTokens: number,
    sessions: Sessions,
    take: (token: number) => boolean,
    { settings, processors, signal, cache }: ReadContext,
  ): Promise<void> {
    const stop = new InterruptableStoppingCriteria()
    let isPrompt = true
    const streamer = {
      put(batch: bigint[][]) {
        if (!isPrompt && take(Number(batch[0][0]))) stop.interrupt()
        isPrompt = false
      },
      end() {},
    }
    const interrupt = () => stop.interrupt()
    signal?.addEventListener('abort', interrupt)
    try {
      await this.#over(sessions).generate({
        ...batchOfOne(ids),
        max_new_tokens: newTokens,
        // The processors draw; what is left for transformers.js is to take the likeliest.
        do_sample: false,
        repetition_penalty: settings.repetitionPenalty,
        ...(processors && { logits_processor: processors }),
        ...(cache && { past_key_values: cache.tensors }),
        streamer,
        stopping_criteria: stop,
      } as never)
    } finally {
      signal?.removeEventListener('abort', interrupt)
    }
    if (signal?.aborted) throw abortError(signal)
  }

  get #config(): GenerationConfig {
    const { generation_config } = this.#model as unknown as { generation_config?: GenerationConfig | null }
    return generation_config ?? {}
  }

  /** Tokens after which a text ends: the base's own, what its template writes after an answer, and stops that are tokens. */
  #endTokens({ stop }: GenerateOptions): Set<number> {
    const { eos_token_id: own } = this.#model.config as unknown as GenerationConfig
    const ends = [this.#config.eos_token_id ?? own ?? []].flat()
    const special = stopsOf(stop).flatMap((text) => {
      const ids = this.#tokenizer.encode(text, { add_special_tokens: false })
      return ids.length === 1 && this.decode(ids) === '' ? ids : []
    })
    return new Set([...ends, ...this.chat.endTokens, ...special])
  }

  #generatedText({ stop }: GenerateOptions, answer: readonly number[]): GeneratedText {
    return new GeneratedText((tokens) => this.decode(tokens), stopsOf(stop), answer)
  }

  /** What a conversation keeps between its turns. */
  newCache(): KvCache {
    return new KvCache(this.#device)
  }

  /**
   * Logits of every position of one sequence: `[tokens × vocabulary]`, row-major, f32.
   * @throws {TritswapError} `input` for a sequence that the context does not hold; `unsupported` for one of several parts with a
   * graph without a cache
   */
  async logits(
    ids: readonly number[],
    sessions: Sessions,
    reading?: Pick<PromptReading, 'front' | 'stops' | 'readFrom'>,
  ): Promise<{ data: Float32Array; vocabulary: number }> {
    const front = virtualPlaces(reading?.front() ?? 0)
    const most = this.contextLength - front.length
    if (ids.length === 0 || ids.length > most)
      throw new TritswapError('input', `Cannot run ${ids.length} tokens: expected 1 to ${most}`)
    const all = [...front, ...ids]
    const stops = [...(reading?.stops() ?? []), all.length]
    const cache = this.newCache()
    let data: Float32Array | undefined
    try {
      let from = 0
      for (const stop of stops) {
        reading?.readFrom(from)
        const inputs = {
          ...batchOfOne(all.slice(from, stop), stop),
          ...(from > 0 && { past_key_values: cache.tensors }),
        }
        const output = (await this.#over(sessions).forward(inputs)) as Record<string, Tensor>
        const logits = output.logits.to('float32')
        const vocabulary = logits.dims.at(-1) as number
        data ??= new Float32Array(ids.length * vocabulary)
        if (from >= front.length) data.set(logits.data as Float32Array, vocabulary * (from - front.length))
        for (const tensor of cache.take(output)) if (tensor.location === 'gpu-buffer') tensor.dispose()
        if (stop < all.length && cache.isEmpty) throw noCache()
        from = stop
      }
    } finally {
      await cache.clear()
    }
    return { data: data as Float32Array, vocabulary: (data as Float32Array).length / ids.length }
  }

  async dispose(): Promise<void> {
    await this.#model.dispose()
  }
}

/** The next token is chosen as soon as a pass ends: by then the mask is that of its place. */
function withMask(sessions: Sessions, mask: AnswerMask): Sessions {
  const entries = Object.entries(sessions).map(([name, session]) => {
    const waiting = hoistedSession(session, new Map(), async (run) => {
      const outputs = await run()
      await mask.settled
      return outputs
    })
    return [name, waiting] as const
  })
  return Object.fromEntries(entries)
}

function badTokenizer(cause: unknown): never {
  const why = cause instanceof Error ? cause.message : String(cause)
  throw new TritswapError(
    'format',
    `Cannot make a tokenizer of tokenizer.json and tokenizer_config.json: ${why}; fetch them again, both of one model`,
    { cause },
  )
}

function noCache(): TritswapError {
  return new TritswapError(
    'unsupported',
    'Cannot read a prompt in parts, as an activated LoRA and virtual tokens need it: the graph of this base keeps no keys and values; export it with a cache (optimum: --task text-generation-with-past)',
  )
}

/** What stands for virtual tokens among ids: numbers below 0. */
function virtualPlaces(count: number): number[] {
  return virtualIds(count).map((id) => -1 - id)
}

function isVirtual(id: number): boolean {
  return id < 0
}

/**
 * Virtual tokens are read alone, by rows of their own. Behind them they are in the cache, and only what counts ids sees theirs: it
 * is that of a token which is there anyway.
 * @param length - of the whole sequence that these are the last tokens of
 */
function batchOfOne(ids: readonly number[], length = ids.length) {
  const own = ids.find((id) => !isVirtual(id))
  const seen = ids.map((id) => (isVirtual(id) ? (own ?? -1 - id) : id))
  return {
    input_ids: new Tensor('int64', BigInt64Array.from(seen, BigInt), [1, seen.length]),
    attention_mask: new Tensor('int64', new BigInt64Array(length).fill(1n), [1, length]),
  }
}

/** Points transformers.js at the files of the model and nowhere else. */
function configure(files: ModelFiles, ort: OrtPaths | undefined): void {
  env.allowRemoteModels = false
  env.allowLocalModels = true
  env.localModelPath = LOCAL_ROOT
  env.useBrowserCache = false
  env.useWasmCache = false
  env.fetch = async (input: string | URL | Request) => {
    const path = String(input instanceof Request ? input.url : input)
    const at = path.indexOf(`${LOCAL_ROOT}${MODEL_ID}/`)
    if (at < 0) {
      throw new TritswapError('network', `Cannot fetch ${path}: only files of the model folder may be read`, {
        fields: { url: path },
      })
    }
    const file = path.slice(at + LOCAL_ROOT.length + MODEL_ID.length + 1)
    return (await files(file)) ?? new Response(null, { status: 404 })
  }
  const wasm = env.backends.onnx.wasm
  if (wasm) {
    if (ort) wasm.wasmPaths = { ...ort }
    // More threads need SharedArrayBuffer, hence COOP and COEP headers, and the work is on the GPU.
    wasm.numThreads = 1
  }
}
