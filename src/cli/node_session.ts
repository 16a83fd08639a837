/**
 * ONNX sessions in Node on onnxruntime-web's wasm backend, for `eval`, `check` and tests.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import type { CpuFeed } from '../reference/index.ts'
import { type GraphInput, graphInputs, type InputMetadata, type InputValues } from './graph_inputs.ts'

type Ort = typeof import('onnxruntime-web')
type Session = import('onnxruntime-web').InferenceSession
type Tensor = import('onnxruntime-web').Tensor

export type Feeds = Record<string, Tensor>

/**
 * Loads onnxruntime-web, which comes with transformers.js; the published package depends on neither.
 * @param threads - of all sessions of the process; only what the first of them asks for counts
 */
export async function loadOrt(threads = 1): Promise<Ort> {
  let ort: Ort
  try {
    ort = await import('onnxruntime-web')
  } catch (cause) {
    throw new TritswapError(
      'input',
      'Cannot run a model in Node: onnxruntime-web is missing; npm install onnxruntime-web',
      {
        cause,
      },
    )
  }
  ort.env.wasm.numThreads = threads
  ort.env.logLevel = 'error'
  return ort
}

export class NodeSession {
  readonly #ort: Ort
  readonly #session: Session

  private constructor(ort: Ort, session: Session) {
    this.#ort = ort
    this.#session = session
  }

  /**
   * @param externalData - the files that the graph keeps data in, by the names that it calls them
   * @param options.threads - as of {@link loadOrt}
   * @param options.prepack - false keeps weights as they come: onnxruntime packs them for its products, some 8 % faster,
   * but has them twice meanwhile
   */
  static async create(
    model: Uint8Array,
    externalData: readonly { path: string; data: Uint8Array }[] = [],
    { threads, prepack = true }: { threads?: number; prepack?: boolean } = {},
  ): Promise<NodeSession> {
    const ort = await loadOrt(threads)
    const session = await ort.InferenceSession.create(model, {
      executionProviders: ['wasm'],
      externalData: [...externalData],
      ...(!prepack && { extra: { session: { disable_prepacking: '1' } } }),
    })
    return new NodeSession(ort, session)
  }

  get inputNames(): readonly string[] {
    return this.#session.inputNames
  }

  get outputNames(): readonly string[] {
    return this.#session.outputNames
  }

  /** The inputs that `weights` does not feed. */
  inputsBeside(weights: Feeds): InputMetadata[] {
    return this.#session.inputMetadata.flatMap((meta) =>
      meta.isTensor && !(meta.name in weights) ? [meta] : [],
    )
  }

  /** Weights as tensors of this runtime; make them once and pass them to every run. */
  weights(feeds: ReadonlyMap<string, CpuFeed>): Feeds {
    return Object.fromEntries(
      Array.from(feeds, ([name, { dtype, dims, data }]) => [
        name,
        new this.#ort.Tensor(dtype, data as Float32Array, dims),
      ]),
    )
  }

  /** Values of graph inputs as tensors of this runtime. */
  inputs(values: ReadonlyMap<string, GraphInput>): Feeds {
    return Object.fromEntries(
      Array.from(values, ([name, { type, dims, data }]) => [
        name,
        new this.#ort.Tensor(type as 'float32', data as Float32Array, dims),
      ]),
    )
  }

  /**
   * Logits of every position of a causal language model, `[tokens × vocabulary]`, with an empty cache.
   * @throws {TritswapError} `unsupported` for a graph with other inputs than those of a decoder
   */
  async logits(
    tokens: readonly number[],
    weights: Feeds,
  ): Promise<{ data: Float32Array; vocabulary: number }> {
    const ids: InputValues = { dims: [1, tokens.length], data: Int32Array.from(tokens) }
    const { values, missing } = graphInputs(this.inputsBeside(weights), new Map([['input_ids', ids]]))
    if (missing.length > 0) {
      const [name] = missing
      throw new TritswapError('unsupported', `Cannot score a text with this graph: it has an input ${name}`, {
        fields: { name },
      })
    }
    const { logits } = await this.#session.run({ ...this.inputs(values), ...weights }, ['logits'])
    return { data: logits.data as Float32Array, vocabulary: logits.dims.at(-1)! }
  }

  /**
   * Runs the session with these feeds and no others.
   * @param outputs - what to return; all by default
   */
  async run(feeds: Feeds, outputs: readonly string[] = this.outputNames): Promise<Record<string, Tensor>> {
    return this.#session.run(feeds, outputs)
  }

  async release(): Promise<void> {
    await this.#session.release()
  }
}
