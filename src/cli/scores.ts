/**
 * Figures of a model on examples, with what they would vary by on other examples of the same kind.
 *
 * @module
 */

/** What a model does on one example. */
export interface ExampleScore {
  /** Tokens that were predicted. */
  tokens: number
  /** Those that were ranked first. */
  firstChoices: number
  /** Information content of them. */
  bits: number
  /** Beside other models on the same example, in their order. */
  beside: readonly {
    /** Tokens where both rank the same one first. */
    agreeing: number
    /** Σ KL(other ‖ model). */
    klBits: number
  }[]
}

/** A figure and its standard error; 0 where one example says nothing of others. */
export interface Estimate {
  value: number
  se: number
}

/** Σ part / Σ whole over examples, each of which is one draw: tokens of one example are not independent. */
export function ratio<T>(
  items: readonly T[],
  part: (item: T) => number,
  whole: (item: T) => number,
): Estimate {
  const total = items.reduce((sum, item) => sum + whole(item), 0)
  const value = items.reduce((sum, item) => sum + part(item), 0) / total
  const n = items.length
  if (n < 2) return { value, se: 0 }
  const squares = items.reduce((sum, item) => sum + (part(item) - value * whole(item)) ** 2, 0)
  return { value, se: Math.sqrt((n / (n - 1)) * squares) / total }
}

/** Whether a greedy answer is the wanted one: the model ranks each of its tokens first, given those before it. */
function isExact({ tokens, firstChoices }: ExampleScore): boolean {
  return firstChoices === tokens
}

/** The fraction of exact answers, with the error of a binomial. */
export function exactMatch(scores: readonly ExampleScore[]): Estimate {
  const n = scores.length
  const value = scores.filter(isExact).length / n
  return { value, se: Math.sqrt((value * (1 - value)) / n) }
}

/** How much more is exact than of another model on the same examples, pair by pair. */
export function exactDifference(scores: readonly ExampleScore[], others: readonly ExampleScore[]): Estimate {
  const differences = scores.map((score, i) => Number(isExact(score)) - Number(isExact(others[i])))
  return ratio(
    differences,
    (difference) => difference,
    () => 1,
  )
}

/** Top-1 agreement and KL in bits per token, with the model at a position of `beside`. */
export function closenessTo(
  scores: readonly ExampleScore[],
  at: number,
): { agreement: Estimate; kl: Estimate } {
  const tokens = (score: ExampleScore) => score.tokens
  return {
    agreement: ratio(scores, ({ beside }) => beside[at].agreeing, tokens),
    kl: ratio(scores, ({ beside }) => beside[at].klBits, tokens),
  }
}

/**
 * Fraction of a fine-tuning's gain over the base that a variant retains; undefined where it gained nothing.
 * All three in bits per byte.
 */
export function gainRetained(base: number, finetuned: number, variant: number): number | undefined {
  return base > finetuned ? (base - variant) / (base - finetuned) : undefined
}
