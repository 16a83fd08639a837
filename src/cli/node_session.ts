/**
 * ONNX sessions in Node on onnxruntime-web's wasm backend, for evaluation and tests.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import type { CpuFeed } from '../reference/index.ts'

type Ort = typeof import('onnxruntime-web')
type Session = import('onnxruntime-web').InferenceSession
type Tensor = import('onnxruntime-web').Tensor

export type Feeds = Record<string, Tensor>

/** Loads onnxruntime-web, which comes with transformers.js; the published package depends on neither. */
export async function loadOrt(): Promise<Ort> {
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
  ort.env.wasm.numThreads = 1
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

  static async create(model: Uint8Array): Promise<NodeSession> {
    const ort = await loadOrt()
    return new NodeSession(ort, await ort.InferenceSession.create(model, { executionProviders: ['wasm'] }))
  }

  get inputNames(): readonly string[] {
    return this.#session.inputNames
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

  /**
   * Logits of every position of a causal language model, `[tokens × vocabulary]`, with an empty cache.
   * @throws {TritswapError} `unsupported` for a graph with other inputs than those of a decoder
   */
  async logits(
    tokens: readonly number[],
    weights: Feeds,
  ): Promise<{ data: Float32Array; vocabulary: number }> {
    const { Tensor } = this.#ort
    const count = tokens.length
    const own: Feeds = {}
    for (const meta of this.#session.inputMetadata) {
      const { name } = meta
      if (name in weights) continue
      const ints = (values: readonly number[]) =>
        new Tensor('int64', BigInt64Array.from(values, BigInt), [1, count])
      if (name === 'input_ids') own[name] = ints(tokens)
      else if (name === 'attention_mask') own[name] = ints(tokens.map(() => 1))
      else if (name === 'position_ids') own[name] = ints(tokens.map((_, i) => i))
      else if (name.startsWith('past_key_values') && meta.isTensor) {
        const [, heads, , size] = meta.shape
        own[name] = new Tensor(meta.type as 'float32', new Float32Array(0), [
          1,
          Number(heads),
          0,
          Number(size),
        ])
      } else {
        throw new TritswapError(
          'unsupported',
          `Cannot score a text with this graph: it has an input ${name}`,
          { fields: { name } },
        )
      }
    }
    const { logits } = await this.#session.run({ ...own, ...weights }, ['logits'])
    return { data: logits.data as Float32Array, vocabulary: logits.dims.at(-1)! }
  }

  /** Runs the session with these feeds and no others. */
  async run(feeds: Feeds): Promise<Record<string, Tensor>> {
    return this.#session.run(feeds)
  }

  async release(): Promise<void> {
    await this.#session.release()
  }
}
