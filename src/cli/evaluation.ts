import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { commonPrefix, type Example } from '../engine/answered_example.ts'
import { actsFrom } from '../format/invocation.ts'
import { Decoder } from './decoder.ts'
import { LogitsFile } from './logits_file.ts'
import { openPreparedBase, type PreparedBase } from './prepared_base.ts'
import { withPreparedFolder } from './prepared_folder.ts'
import { type ScoreOptions, scoreExample } from './score_example.ts'
import type { ExampleScore } from './scores.ts'
import { loadTokenizer, type Tokenizer } from './tokenizer.ts'
import type { Variant } from './variants.ts'
import { WeightsFile } from './weights_file.ts'

/** What to do with the logits of a variant, and how they come about. */
export interface VariantScoreOptions extends ScoreOptions {
  /** From which token of an example on the variant reads; the base reads what comes before. By default by its invocation. */
  readsFrom?: (example: number) => number
}

/**
 * Scores a prepared base and variants of its weights on the CPU, one after the other: only the weights of one are in
 * memory, those of the session.
 */
export class Evaluation {
  readonly base: PreparedBase
  readonly tokenizer: Tokenizer
  readonly #folder: string
  readonly #weights: WeightsFile
  readonly #threads: number | undefined
  #files = 0

  private constructor(
    base: PreparedBase,
    tokenizer: Tokenizer,
    folder: string,
    weights: WeightsFile,
    threads?: number,
  ) {
    this.base = base
    this.tokenizer = tokenizer
    this.#folder = folder
    this.#weights = weights
    this.#threads = threads
  }

  /**
   * @param model - folder written by `tritswap prepare`
   * @throws {TritswapError} `unsupported` unless the model is one decoder graph
   */
  static async open(model: string, threads?: number): Promise<Evaluation> {
    const base = await openPreparedBase(model)
    const folder = await mkdtemp(join(tmpdir(), 'tritswap-'))
    try {
      const { graph, fit } = base
      const weights = await WeightsFile.create(join(folder, 'weights'), fit.weights, graph.file)
      return new Evaluation(base, await loadTokenizer(model), folder, weights, threads)
    } catch (error) {
      await base.close()
      await rm(folder, { recursive: true })
      throw error
    }
  }

  /** A name for a file that lasts as long as the evaluation. */
  scratch(name: string): string {
    return join(this.#folder, `${++this.#files}-${name}`)
  }

  /** Room for the logits of a variant. */
  logitsFile(): Promise<LogitsFile> {
    return LogitsFile.create(this.scratch('logits'))
  }

  /** What the base, or a variant of it, does on each example. */
  async score(
    examples: readonly Example[],
    { change, bypass, invocation, front }: Partial<Variant> = {},
    { readsFrom, ...options }: VariantScoreOptions = {},
  ): Promise<ExampleScore[]> {
    const { graph, config } = this.base
    const settings = { config, threads: this.#threads }
    const isParted = invocation !== undefined || readsFrom !== undefined
    let before: Decoder | undefined
    if (isParted) {
      await this.#weights.bring()
      before = await Decoder.create(graph, this.#weights, settings)
    }
    await this.#weights.bring(change)
    const decoder = await Decoder.create(graph, this.#weights, { ...settings, bypass })
    try {
      if (front !== undefined) await this.#readFront(decoder, front)
      if (examples.length > 1 && !isParted)
        await decoder.readPrefix(commonPrefix(examples.map(({ ids, first }) => ids.slice(0, first - 1))))
      const scores: ExampleScore[] = []
      for (const [i, example] of examples.entries()) {
        const from = readsFrom?.(i) ?? invocationIn(example, invocation)
        // Where the expert does not act, the base answers.
        const logits = await (from < example.ids.length - 1
          ? decoder.logits(example, { from, before })
          : before!.logits(example))
        // The last token before the predicted ones has the row of the first of them.
        scores.push(await scoreExample(i, logits, example.ids.slice(example.first - 1), options))
      }
      return scores
    } finally {
      await before?.release()
      await decoder.release()
    }
  }

  /** Has virtual tokens read before each example; their session is open no longer than that takes. */
  async #readFront(decoder: Decoder, { tokens, bypass }: NonNullable<Variant['front']>): Promise<void> {
    const { graph, config } = this.base
    const reader = await Decoder.create(graph, this.#weights, { config, threads: this.#threads, bypass })
    try {
      await decoder.readFront(tokens, reader)
    } finally {
      await reader.release()
    }
  }

  async close(): Promise<void> {
    await this.base.close()
    await this.#weights.close()
    await rm(this.#folder, { recursive: true })
  }
}

/** Where an expert begins to act: an answer cannot invoke an expert; a text is a request as a whole. */
function invocationIn({ ids, first }: Example, invocation: Variant['invocation']): number {
  return actsFrom(first > 1 ? ids.slice(0, first) : ids, invocation)
}

/** @param model - folder written by `tritswap prepare`, or one to prepare for as long as it is used */
export function withEvaluation<T>(
  model: string,
  threads: number,
  use: (evaluation: Evaluation) => Promise<T>,
): Promise<T> {
  return withPreparedFolder(model, {}, async ({ folder }) => {
    const evaluation = await Evaluation.open(folder, threads)
    try {
      return await use(evaluation)
    } finally {
      await evaluation.close()
    }
  })
}
