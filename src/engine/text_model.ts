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
import { GRAPH_FOLDER } from '../model/graph_files.ts'
import type { OrtSession } from '../model/hoisted_session.ts'
import { IncrementalText } from './incremental_text.ts'
import type { GenerateOptions } from './protocol.ts'

/** Reads a file of the model folder; `undefined` where there is none. */
export type ModelFiles = (path: string) => Promise<Response | undefined>

/** Where onnxruntime-web's wasm and its glue code are served. */
export interface OrtPaths {
  mjs: string
  wasm: string
}

/**
 * Called with each token as it is sampled, before the next forward pass begins. `true` asks for a fresh reading of the
 * whole context before the next token. `text` may be empty where a character spans tokens; it then comes with a later
 * one.
 */
export type OnToken = (token: number, text: string) => boolean

/** transformers.js asks for `<localModelPath><id>/<file>`: from this pair its `fetch` tells the files of the model. */
const LOCAL_ROOT = '/tritswap-model/'
const MODEL_ID = 'model'
const DEFAULT_CONTEXT = 2048

type Sessions = Record<string, OrtSession>

export class TextModel {
  readonly contextLength: number
  readonly #tokenizer: PreTrainedTokenizer
  readonly #model: PreTrainedModel

  private constructor(tokenizer: PreTrainedTokenizer, model: PreTrainedModel) {
    this.#tokenizer = tokenizer
    this.#model = model
    const config = model.config as unknown as { max_position_embeddings?: number; n_positions?: number }
    this.contextLength = config.max_position_embeddings ?? config.n_positions ?? DEFAULT_CONTEXT
  }

  /** @throws {TritswapError} `unsupported` for a type of model that is no causal language model */
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
    ort: OrtPaths
    device: GPUDevice
    dtype: string
    /** Folder of the graph in the model folder. */
    subfolder?: string
    /** Data files of the graph, by the name that it calls them; config.json may tell of those of another graph. */
    externalFiles?: readonly string[]
  }): Promise<TextModel> {
    const { subfolder = GRAPH_FOLDER, externalFiles = [] } = options
    configure(options.files, options.ort)
    const tokenizer = await AutoTokenizer.from_pretrained(MODEL_ID).catch(badTokenizer)
    const model = await AutoModelForCausalLM.from_pretrained(MODEL_ID, {
      device: 'webgpu',
      dtype: options.dtype as 'fp32',
      // The device that experts and weights are on: onnxruntime-web only borrows it.
      session_options: {
        executionProviders: [{ name: 'webgpu', device: options.device } as never],
        // A string instead of bytes is a path that transformers.js reads.
        externalData: externalFiles.map((path) => ({ path, data: `${subfolder}/${path}` })) as never,
      },
      subfolder,
      use_external_data_format: false,
    })
    return new TextModel(tokenizer, model)
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
   * Writes on from a prompt, which is cut at its start where prompt and new tokens would not fit the context; at least
   * half of it stays.
   * @throws {DOMException} `AbortError` once the signal is aborted, after the forward pass under way
   */
  async generate(
    prompt: string,
    sessions: Sessions,
    onToken: OnToken,
    { maxNewTokens = 128, temperature = 0, topK = 0 }: GenerateOptions,
    signal?: AbortSignal,
  ): Promise<void> {
    signal?.throwIfAborted()
    const room = Math.max(this.contextLength - maxNewTokens, Math.ceil(this.contextLength / 2))
    const ids = this.encode(prompt).slice(-room)
    if (ids.length === 0) {
      throw new TritswapError('input', 'Cannot generate from an empty prompt: write a word or two')
    }
    const end = Math.min(ids.length + maxNewTokens, this.contextLength)
    const text = new IncrementalText((tokens) => this.decode(tokens))
    const sampling = { do_sample: temperature > 0, ...(temperature > 0 ? { temperature, top_k: topK } : {}) }
    // Once for each time that the context is read from its start.
    while (ids.length < end) {
      const before = ids.length
      const take = (token: number) => {
        ids.push(token)
        return onToken(token, text.next(token))
      }
      await this.#read(ids, end - before, sessions, take, sampling, signal)
      if (ids.length === before || this.#isEnd(ids[ids.length - 1])) return
    }
  }

  /** One uninterrupted run of transformers.js' own loop over one KV cache. */
  async #read(
    ids: readonly number[],
    newTokens: number,
    sessions: Sessions,
    onToken: (token: number) => boolean,
    sampling: object,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const stop = new InterruptableStoppingCriteria()
    let isPrompt = true
    const streamer = {
      put(batch: bigint[][]) {
        if (!isPrompt && !signal?.aborted && onToken(Number(batch[0][0]))) stop.interrupt()
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
        ...sampling,
        streamer,
        stopping_criteria: stop,
      } as never)
    } finally {
      signal?.removeEventListener('abort', interrupt)
    }
    if (signal?.aborted) throw abortError(signal)
  }

  #isEnd(token: number): boolean {
    const { eos_token_id: ends } =
      (this.#model as unknown as { generation_config?: { eos_token_id?: number | number[] } })
        .generation_config ?? {}
    return ends === token || (Array.isArray(ends) && ends.includes(token))
  }

  /** Logits of every position of one sequence: `[tokens × vocabulary]`, row-major, f32. */
  async logits(
    ids: readonly number[],
    sessions: Sessions,
  ): Promise<{ data: Float32Array; vocabulary: number }> {
    if (ids.length === 0 || ids.length > this.contextLength) {
      throw new TritswapError('input', `Cannot run ${ids.length} tokens: expected 1 to ${this.contextLength}`)
    }
    const output = (await this.#over(sessions).forward(batchOfOne(ids))) as Record<string, Tensor>
    try {
      const logits = output.logits.to('float32')
      return { data: (logits.data as Float32Array).slice(), vocabulary: logits.dims.at(-1) as number }
    } finally {
      for (const tensor of Object.values(output)) if (tensor.location === 'gpu-buffer') tensor.dispose()
    }
  }

  async dispose(): Promise<void> {
    await this.#model.dispose()
  }
}

function badTokenizer(cause: unknown): never {
  const why = cause instanceof Error ? cause.message : String(cause)
  throw new TritswapError(
    'format',
    `Cannot make a tokenizer of tokenizer.json and tokenizer_config.json: ${why}; fetch them again, both of one model`,
    { cause },
  )
}

function batchOfOne(ids: readonly number[]) {
  const dims = [1, ids.length]
  return {
    input_ids: new Tensor('int64', BigInt64Array.from(ids, BigInt), dims),
    attention_mask: new Tensor('int64', new BigInt64Array(ids.length).fill(1n), dims),
  }
}

/** Points transformers.js at the files of the model and nowhere else. */
function configure(files: ModelFiles, ort: OrtPaths): void {
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
    wasm.wasmPaths = { ...ort }
    // More threads need SharedArrayBuffer, hence COOP and COEP headers, and the work is on the GPU.
    wasm.numThreads = 1
  }
}
