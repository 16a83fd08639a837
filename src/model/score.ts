/**
 * How well a model predicts a text, and how close two models are on it. Everything is a sum over the predicted
 * tokens of one window, so windows add up; Node and the page use the same functions.
 *
 * @module
 */

/** Tokens of one forward pass when a text is scored. */
const WINDOW_TOKENS = 256
/** The first windows of a text are for reporting; whatever is chosen on a text is chosen on later ones. */
export const REPORT_WINDOWS = 24

/** Logits of one window: `[tokens × vocabulary]`, row-major. Row i predicts token i + 1. */
export interface WindowLogits {
  data: Float32Array
  vocabulary: number
}

/** Whole windows of a token sequence, one after another; the rest at the end is left out. */
export function windowsOf<T>(tokens: readonly T[], size = WINDOW_TOKENS): T[][] {
  return Array.from({ length: Math.floor(tokens.length / size) }, (_, i) =>
    tokens.slice(i * size, (i + 1) * size),
  )
}

/**
 * Information content of tokens 1 … n−1 of a window given those before them: −Σ log2 p.
 * @param data - logits, `[tokens × vocabulary]`
 */
export function scoreWindow(data: Float32Array, vocabulary: number, tokens: readonly number[]) {
  let bits = 0
  for (let i = 0; i + 1 < tokens.length; i++) {
    const row = data.subarray(i * vocabulary, (i + 1) * vocabulary)
    bits += (logSumExp(row) - row[tokens[i + 1]]) / Math.LN2
  }
  return { bits, tokens: tokens.length - 1 }
}

/** How many of tokens 1 … n−1 of a window are ranked first, given those before them. */
export function firstChoices(data: Float32Array, vocabulary: number, tokens: readonly number[]): number {
  let count = 0
  for (let i = 0; i + 1 < tokens.length; i++)
    if (argmax(data.subarray(i * vocabulary, (i + 1) * vocabulary)) === tokens[i + 1]) count++
  return count
}

/** What two models have in common on the predicted positions of a window. */
export interface Closeness {
  /** Positions compared: tokens − 1. */
  positions: number
  /** Positions where both rank the same token first. */
  agreeing: number
  /** Σ KL(reference ‖ other) in bits. */
  klBits: number
}

/** Compares `other` with `reference` on the positions that predict tokens 1 … n−1. */
export function closeness(reference: WindowLogits, other: WindowLogits, tokens: number): Closeness {
  const { vocabulary } = reference
  const positions = tokens - 1
  let agreeing = 0
  let kl = 0
  for (let i = 0; i < positions; i++) {
    const p = reference.data.subarray(i * vocabulary, (i + 1) * vocabulary)
    const q = other.data.subarray(i * vocabulary, (i + 1) * vocabulary)
    if (argmax(p) === argmax(q)) agreeing++
    const logP = logSumExp(p)
    const logQ = logSumExp(q)
    for (let j = 0; j < vocabulary; j++) {
      const log = p[j] - logP
      kl += Math.exp(log) * (log - (q[j] - logQ))
    }
  }
  return { positions, agreeing, klBits: kl / Math.LN2 }
}

/** ln Σ exp, in f64. */
function logSumExp(row: Float32Array): number {
  let max = Number.NEGATIVE_INFINITY
  for (const value of row) if (value > max) max = value
  let sum = 0
  for (const value of row) sum += Math.exp(value - max)
  return max + Math.log(sum)
}

/** The first of the largest. */
function argmax(row: Float32Array): number {
  let best = 0
  for (let i = 1; i < row.length; i++) if (row[i] > row[best]) best = i
  return best
}
