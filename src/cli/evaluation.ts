import { TritswapError } from '../errors.ts'
import { type WindowLogits, windowsOf } from '../model/score.ts'
import type { TensorValues } from '../reference/index.ts'
import { type Feeds, NodeSession } from './node_session.ts'
import { openPreparedBase, type PreparedBase } from './prepared_base.ts'
import { type Score, ScoreSum } from './scores.ts'
import { loadTokenizer, type Tokenizer } from './tokenizer.ts'
import type { Variant } from './variants.ts'

/** A text in windows of tokens. */
export interface EvaluationText {
  windows: number[][]
  /** UTF-8 bytes of the predicted tokens (all but the first) of each window. */
  bytes: number[]
}

/** Windows `[from, from + count)`, as far as the text has them. */
export interface WindowRange {
  from: number
  count: number
}

export interface EvaluationResult {
  windows: number
  base: Score
  /** Present if a fine-tuning was given: what variants are compared with. */
  finetuned?: Score
  variants: Score[]
}

/** Logits of a fine-tuning stay in memory for the next call as long as they take no more than this. */
const MAX_CACHED_BYTES = 512 << 20

/** Logits of a fine-tuning by window. */
type LogitCache = Map<readonly number[], WindowLogits>

/** A session and its weights: a bypass has a graph of its own. */
interface Scored {
  session: NodeSession
  feeds: Feeds
}

/** Scores texts with a prepared base and variants of its weights, on the CPU. */
export class Evaluation {
  readonly base: PreparedBase
  readonly #session: NodeSession
  readonly #tokenizer: Tokenizer
  readonly #caches = new WeakMap<TensorValues, LogitCache>()

  private constructor(base: PreparedBase, session: NodeSession, tokenizer: Tokenizer) {
    this.base = base
    this.#session = session
    this.#tokenizer = tokenizer
  }

  /**
   * @param folder - written by `tritswap prepare`
   * @throws {TritswapError} `unsupported` unless the model is one decoder graph
   */
  static async open(folder: string): Promise<Evaluation> {
    const base = await openPreparedBase(folder)
    const session = await NodeSession.create(base.graph.bytes)
    return new Evaluation(base, session, await loadTokenizer(folder))
  }

  text(text: string): EvaluationText {
    const windows = windowsOf(this.#tokenizer.encode(text))
    const bytes = windows.map(
      (tokens) => new TextEncoder().encode(this.#tokenizer.decode(tokens.slice(1))).length,
    )
    return { windows, bytes }
  }

  /**
   * Base, fine-tuned and any number of variants on some windows of a text.
   * @param finetuned - tensors of the uncompressed fine-tuning; without it variants are compared with nothing
   * @param onWindow - called after each window with the number done
   * @throws {TritswapError} `input` for a range behind the end of the text
   */
  async score(
    text: EvaluationText,
    { from, count }: WindowRange,
    {
      finetuned,
      variants = [],
      onWindow,
    }: { finetuned?: TensorValues; variants?: readonly Variant[]; onWindow?: (done: number) => void },
  ): Promise<EvaluationResult> {
    const windows = text.windows.slice(from, from + count)
    if (windows.length === 0) {
      throw new TritswapError(
        'input',
        `Cannot score windows from ${from}: the text has ${text.windows.length}`,
        { fields: { from, windows: text.windows.length } },
      )
    }
    const baseFeeds = this.#feeds()
    const tunedFeeds = finetuned && this.#feeds(finetuned)
    const scored: Scored[] = []
    for (const variant of variants) scored.push(await this.#scored(variant))
    const base = new ScoreSum()
    const tuned = new ScoreSum()
    const sums = variants.map(() => new ScoreSum())
    const cache = this.#cacheOf(finetuned)
    for (const [i, tokens] of windows.entries()) {
      const bytes = text.bytes[from + i]
      base.add(await this.#session.logits(tokens, baseFeeds), tokens, bytes)
      let reference: WindowLogits | undefined
      if (tunedFeeds !== undefined) {
        reference = cache?.get(tokens) ?? (await this.#session.logits(tokens, tunedFeeds))
        if (cache !== undefined && (cache.size + 1) * reference.data.byteLength <= MAX_CACHED_BYTES)
          cache.set(tokens, reference)
        tuned.add(reference, tokens, bytes)
      }
      for (const [v, { session, feeds }] of scored.entries()) {
        sums[v].add(await session.logits(tokens, feeds), tokens, bytes, reference)
      }
      onWindow?.(i + 1)
    }
    for (const { session } of scored) if (session !== this.#session) await session.release()
    return {
      windows: windows.length,
      base: base.score(),
      finetuned: finetuned && tuned.score(),
      variants: sums.map((sum) => sum.score()),
    }
  }

  #feeds(changed?: TensorValues, quantized?: 'leave'): Feeds {
    return this.#session.weights(this.base.weights.feeds(this.base.graph.file, changed, quantized))
  }

  async #scored(variant: Variant): Promise<Scored> {
    if (!('bypass' in variant)) return { session: this.#session, feeds: this.#feeds(variant) }
    const { changed, bypass } = variant
    const session = await NodeSession.create(bypass.bytes)
    return { session, feeds: { ...this.#feeds(changed, 'leave'), ...session.weights(bypass.feeds) } }
  }

  #cacheOf(finetuned?: TensorValues): LogitCache | undefined {
    if (finetuned === undefined) return undefined
    const cache: LogitCache = this.#caches.get(finetuned) ?? new Map()
    this.#caches.set(finetuned, cache)
    return cache
  }

  async close(): Promise<void> {
    await this.#session.release()
  }
}
