/**
 * Weights of a composition of experts, found without gradients on a few examples (LoraHub, arXiv 2307.13269, section 3.3).
 *
 * Published comparisons find that a composition often does not beat the best of its experts, so every candidate is scored:
 * no expert, each alone, all averaged, and the composition, which wins only by more than the examples can tell.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'

/** What a model needs for one example. */
export interface ExampleBits {
  bits: number
  /** Tokens that were predicted. */
  tokens: number
}

/** Scores all examples with one weight for each expert. */
export type ScoreWeights = (weights: readonly number[]) => Promise<readonly ExampleBits[]>

export interface SearchOptions {
  /** How often all examples are scored, candidates included; by default 16 times the number of experts, 40 to 120. */
  evaluations?: number
  /** Bits per token that a sum |w| of 1 costs, so that weights that do little stay small; 0.05 by default, as in LoraHub. */
  regularization?: number
  /** Weights stay between −limit and limit; 1.5 by default, as in LoraHub. */
  limit?: number
  signal?: AbortSignal
  onProgress?: (progress: { done: number; total: number }) => void
}

export type CandidateName = 'nothing' | 'alone' | 'average' | 'composed'

export interface Candidate {
  name: CandidateName
  /** One for each expert, in their order. */
  weights: readonly number[]
  /** Over the predicted tokens of all examples. */
  bitsPerToken: number
}

export interface Composition extends Candidate {
  /** All that was scored under a name, the composition last. */
  candidates: readonly Candidate[]
  /**
   * Bits per token by which the composition is better than the best other candidate, and the standard error of that
   * difference over the examples.
   */
  gain: { value: number; se: number }
  /** How often the examples were scored. */
  evaluations: number
}

/** Experts that one search takes. */
export const MAX_COMPOSED = 16
const FIRST_STEP = 0.5
const LAST_STEP = 1 / 32

/**
 * Searches from the best candidate on: a pattern search, which tries each expert's weight a step up and down, keeps what
 * is better, goes on in a direction that pays, and halves the step where none does. Nothing in it is random.
 * @param count - experts
 * @throws {TritswapError} `input` for a count out of range or no examples; the signal's reason
 */
export async function composeWeights(
  count: number,
  score: ScoreWeights,
  options: SearchOptions = {},
): Promise<Composition> {
  if (count < 1 || count > MAX_COMPOSED) {
    throw new TritswapError(
      'input',
      `Cannot compose ${count} experts: expected 1 to ${MAX_COMPOSED}; leave out those that are farthest from the examples`,
      { fields: { experts: count } },
    )
  }
  const search = new Search(count, score, options)
  const candidates = [await search.candidate('nothing', zeros(count))]
  for (let i = 0; i < count; i++) candidates.push(await search.candidate('alone', unit(count, i)))
  if (count > 1) candidates.push(await search.candidate('average', zeros(count).fill(1 / count)))
  const best = candidates.reduce((a, b) => (b.bitsPerToken < a.bitsPerToken ? b : a))
  const composed = await search.descend(best.weights)
  const gain = differenceOf(search.scoresOf(best.weights), search.scoresOf(composed.weights))
  candidates.push(composed)
  return {
    ...(gain.value > gain.se ? composed : best),
    candidates,
    gain,
    evaluations: search.evaluations,
  }
}

class Search {
  readonly #score: ScoreWeights
  readonly #total: number
  readonly #regularization: number
  readonly #limit: number
  readonly #signal: AbortSignal | undefined
  readonly #onProgress: SearchOptions['onProgress']
  readonly #known = new Map<string, readonly ExampleBits[]>()

  constructor(count: number, score: ScoreWeights, options: SearchOptions) {
    const {
      evaluations = Math.min(Math.max(16 * count, 40), 120),
      regularization = 0.05,
      limit = 1.5,
    } = options
    this.#score = score
    this.#total = Math.max(evaluations, count + 2)
    this.#regularization = regularization
    this.#limit = limit
    this.#signal = options.signal
    this.#onProgress = options.onProgress
  }

  get evaluations(): number {
    return this.#known.size
  }

  async candidate(name: CandidateName, weights: readonly number[]): Promise<Candidate> {
    return { name, weights, bitsPerToken: bitsPerToken(await this.#scores(weights)) }
  }

  /** Of weights that were scored. */
  scoresOf(weights: readonly number[]): readonly ExampleBits[] {
    return this.#known.get(weights.join())!
  }

  /** Downhill from some weights, as far as the evaluations go. */
  async descend(from: readonly number[]): Promise<Candidate> {
    let weights = from
    let loss = await this.#loss(weights)
    const directions = from.map(() => 1)
    for (let step = FIRST_STEP; step >= LAST_STEP; step /= 2) {
      for (let isBetter = true; isBetter && this.#hasMore; ) {
        isBetter = false
        for (let i = 0; i < weights.length && this.#hasMore; i++) {
          for (const direction of [directions[i], -directions[i]]) {
            const moved = this.#moved(weights, i, direction * step)
            if (moved === undefined || !this.#hasMore) continue
            const found = await this.#loss(moved)
            if (found >= loss) continue
            directions[i] = direction
            weights = moved
            loss = found
            isBetter = true
            break
          }
        }
      }
    }
    return this.candidate('composed', weights)
  }

  get #hasMore(): boolean {
    return this.#known.size < this.#total
  }

  /** Undefined beyond the limit. */
  #moved(weights: readonly number[], i: number, by: number): number[] | undefined {
    const value = weights[i] + by
    return Math.abs(value) > this.#limit ? undefined : weights.with(i, value)
  }

  async #loss(weights: readonly number[]): Promise<number> {
    const size = weights.reduce((sum, weight) => sum + Math.abs(weight), 0)
    return bitsPerToken(await this.#scores(weights)) + this.#regularization * size
  }

  async #scores(weights: readonly number[]): Promise<readonly ExampleBits[]> {
    const key = weights.join()
    const known = this.#known.get(key)
    if (known !== undefined) return known
    this.#signal?.throwIfAborted()
    const scores = await this.#score(weights)
    if (scores.length === 0)
      throw new TritswapError('input', 'Cannot compose experts without examples: give five or more')
    this.#known.set(key, scores)
    this.#onProgress?.({ done: this.#known.size, total: this.#total })
    return scores
  }
}

function bitsPerToken(scores: readonly ExampleBits[]): number {
  const sum = (of: keyof ExampleBits) => scores.reduce((total, score) => total + score[of], 0)
  return sum('bits') / sum('tokens')
}

/** Bits per token that the second needs less, pair by pair, and the standard error over the examples. */
function differenceOf(a: readonly ExampleBits[], b: readonly ExampleBits[]): Composition['gain'] {
  const n = a.length
  const tokens = a.reduce((sum, score) => sum + score.tokens, 0)
  const value = a.reduce((sum, { bits }, i) => sum + bits - b[i].bits, 0) / tokens
  const squares = a.reduce((sum, score, i) => sum + (score.bits - b[i].bits - value * score.tokens) ** 2, 0)
  // One example says nothing of others.
  return { value, se: n < 2 ? Math.abs(value) : Math.sqrt((n / (n - 1)) * squares) / tokens }
}

function zeros(count: number): number[] {
  return Array<number>(count).fill(0)
}

function unit(count: number, at: number): number[] {
  return zeros(count).with(at, 1)
}
