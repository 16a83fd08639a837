/**
 * Weights of a composition of experts, found without gradients on a few examples (LoraHub, arXiv 2307.13269, section 3.3).
 *
 * Published comparisons find that a composition often does not beat the best of its experts, so every candidate is scored:
 * no expert, each alone, all averaged, and the composition, which wins only by more than the examples can tell. So do weights
 * that differ by groups of layers, as in mixtures of LoRA experts (arXiv 2404.13628), over all of these.
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

/** One weight for each group of layers, for each expert. */
export type GroupWeights = readonly (readonly number[])[]

/** Scores all examples with one weight for each expert, or by groups of layers where those are given. */
export type ScoreWeights = (
  weights: readonly number[],
  groups: GroupWeights | undefined,
) => Promise<readonly ExampleBits[]>

export interface SearchOptions {
  /**
   * How often all examples are scored, candidates included; by default 16 times the number of experts, 40 to 120, and as often again
   * by groups of layers.
   */
  evaluations?: number
  /**
   * Groups of layers to search weights for, once those of whole experts are found: equally many layers each, from the first to the
   * last; none by default, at most as many as the base has layers.
   */
  groups?: number
  /** Bits per token that a sum |w| of 1 costs, so that weights that do little stay small; 0.05 by default, as in LoraHub. */
  regularization?: number
  /** Weights stay between −limit and limit; 1.5 by default, as in LoraHub. */
  limit?: number
  signal?: AbortSignal
  onProgress?: (progress: { done: number; total: number }) => void
}

export type CandidateName = 'nothing' | 'alone' | 'average' | 'composed' | 'composed by layers'

export interface Candidate {
  name: CandidateName
  /** One for each expert, in their order; of `composed by layers` the means of its groups. */
  weights: readonly number[]
  /** Of `composed by layers`. */
  groups?: GroupWeights
  /** Over the predicted tokens of all examples. */
  bitsPerToken: number
}

export interface Composition extends Candidate {
  /** All that was scored under a name, the compositions last. */
  candidates: readonly Candidate[]
  /**
   * Bits per token by which the composition is better than the best other candidate, and the standard error of that
   * difference over the examples.
   */
  gain: Gain
  /** The same of the composition by layers, over all others. */
  groupsGain?: Gain
  /** How often the examples were scored. */
  evaluations: number
}

/** A difference and its standard error. */
export interface Gain {
  value: number
  se: number
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
  const { groups = 1 } = options
  if (!Number.isInteger(groups) || groups < 1) {
    throw new TritswapError(
      'input',
      `Cannot search weights for ${groups} groups of layers: expected 1 or more`,
      { fields: { groups } },
    )
  }
  const search = new Search(count, score, options)
  const candidates = [await search.candidate('nothing', zeros(count))]
  for (let i = 0; i < count; i++) candidates.push(await search.candidate('alone', unit(count, i)))
  if (count > 1) candidates.push(await search.candidate('average', zeros(count).fill(1 / count)))
  let best = candidates.reduce((a, b) => (b.bitsPerToken < a.bitsPerToken ? b : a))
  /** The better one by more than the examples can tell. */
  const take = (found: Candidate): Gain => {
    const gain = differenceOf(search.scoresOf(best), search.scoresOf(found))
    candidates.push(found)
    if (gain.value > gain.se) best = found
    return gain
  }
  const composed = await search.descend(best.weights)
  const gain = take(composed)
  const groupsGain = groups > 1 ? take(await search.descendByGroups(composed.weights, groups)) : undefined
  return {
    ...best,
    candidates,
    gain,
    ...(groupsGain && { groupsGain }),
    evaluations: search.evaluations,
  }
}

/** Places a search is at: numbers that {@link Search} may change one by one, and what they stand for. */
interface Space {
  /** What a change of one number by 1 costs of the regularization. */
  share: number
  /** Scores with these numbers. */
  scores(numbers: readonly number[]): Promise<readonly ExampleBits[]>
}

class Search {
  readonly #score: ScoreWeights
  readonly #regularization: number
  readonly #limit: number
  readonly #signal: AbortSignal | undefined
  readonly #onProgress: SearchOptions['onProgress']
  readonly #known = new Map<string, readonly ExampleBits[]>()
  /** Evaluations in all, and up to the end of the search for whole experts. */
  readonly #total: number
  readonly #first: number

  constructor(count: number, score: ScoreWeights, options: SearchOptions) {
    const own = Math.min(Math.max(16 * count, 40), 120)
    const { groups = 1, evaluations, regularization = 0.05, limit = 1.5 } = options
    this.#score = score
    this.#total = Math.max(evaluations ?? (groups > 1 ? 2 * own : own), count + 2)
    this.#first = groups > 1 ? Math.max(Math.ceil(this.#total / 2), count + 2) : this.#total
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
  scoresOf({ weights, groups }: Candidate): readonly ExampleBits[] {
    return this.#known.get(keyOf(weights, groups))!
  }

  /** Downhill from some weights, as far as the evaluations for whole experts go. */
  async descend(from: readonly number[]): Promise<Candidate> {
    const space = { share: 1, scores: (weights: readonly number[]) => this.#scores(weights) }
    return this.candidate('composed', await this.#descend(from, space, FIRST_STEP, this.#first))
  }

  /** The same by groups of layers, as far as all evaluations go. */
  async descendByGroups(from: readonly number[], groups: number): Promise<Candidate> {
    const rows = (numbers: readonly number[]) =>
      from.map((_, i) => numbers.slice(i * groups, (i + 1) * groups))
    const scores = (numbers: readonly number[]) => {
      const found = rows(numbers)
      // Where no group differs, whole experts have been scored.
      const isWhole = found.every((row) => row.every((weight) => weight === row[0]))
      return isWhole ? this.#scores(found.map(([weight]) => weight)) : this.#scores(meansOf(found), found)
    }
    const start = from.flatMap((weight) => Array<number>(groups).fill(weight))
    const space = { share: 1 / groups, scores }
    const found = rows(await this.#descend(start, space, FIRST_STEP / 2, this.#total))
    const isWhole = found.every((row) => row.every((weight) => weight === row[0]))
    const weights = meansOf(found)
    return {
      name: 'composed by layers',
      weights,
      ...(!isWhole && { groups: found }),
      bitsPerToken: bitsPerToken(await this.#scores(weights, isWhole ? undefined : found)),
    }
  }

  async #descend(
    from: readonly number[],
    space: Space,
    first: number,
    until: number,
  ): Promise<readonly number[]> {
    let weights = from
    let loss = await this.#loss(weights, space)
    const directions = from.map(() => 1)
    for (let step = first; step >= LAST_STEP; step /= 2) {
      for (let isBetter = true; isBetter && this.#known.size < until; ) {
        isBetter = false
        for (let i = 0; i < weights.length && this.#known.size < until; i++) {
          for (const direction of [directions[i], -directions[i]]) {
            const moved = this.#moved(weights, i, direction * step)
            if (moved === undefined || this.#known.size >= until) continue
            const found = await this.#loss(moved, space)
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
    return weights
  }

  /** Undefined beyond the limit. */
  #moved(weights: readonly number[], i: number, by: number): number[] | undefined {
    const value = weights[i] + by
    return Math.abs(value) > this.#limit ? undefined : weights.with(i, value)
  }

  async #loss(weights: readonly number[], { share, scores }: Space): Promise<number> {
    const size = weights.reduce((sum, weight) => sum + Math.abs(weight), 0)
    return bitsPerToken(await scores(weights)) + this.#regularization * share * size
  }

  async #scores(weights: readonly number[], groups?: GroupWeights): Promise<readonly ExampleBits[]> {
    const key = keyOf(weights, groups)
    const known = this.#known.get(key)
    if (known !== undefined) return known
    this.#signal?.throwIfAborted()
    const scores = await this.#score(weights, groups)
    if (scores.length === 0)
      throw new TritswapError('input', 'Cannot compose experts without examples: give five or more')
    this.#known.set(key, scores)
    this.#onProgress?.({ done: this.#known.size, total: this.#total })
    return scores
  }
}

function keyOf(weights: readonly number[], groups: GroupWeights | undefined): string {
  return (groups ?? weights).join(';')
}

function meansOf(groups: GroupWeights): number[] {
  return groups.map((row) => row.reduce((sum, weight) => sum + weight, 0) / row.length)
}

function bitsPerToken(scores: readonly ExampleBits[]): number {
  const sum = (of: keyof ExampleBits) => scores.reduce((total, score) => total + score[of], 0)
  return sum('bits') / sum('tokens')
}

/** Bits per token that the second needs less, pair by pair, and the standard error over the examples. */
function differenceOf(a: readonly ExampleBits[], b: readonly ExampleBits[]): Gain {
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
