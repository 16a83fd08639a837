/**
 * What transformers.js lacks to sample: top-k, top-p and min-p as torch's transformers have them, and a draw from a
 * generator of its own for each call, so that calls at the same time repeat with their seeds.
 *
 * @module
 */
import {
  LogitsProcessor,
  LogitsProcessorList,
  random,
  TemperatureLogitsWarper,
  type Tensor,
} from '@xenova/transformers'

export interface Sampling {
  /** 0 is greedy. */
  temperature: number
  /** 0 keeps all. */
  topK: number
  /** 1 keeps all. */
  topP: number
  /** 0 keeps all. */
  minP: number
  /** Another sequence for each call without one. */
  seed?: number
}

/**
 * Processors after which the likeliest token is the one that was drawn, so that transformers.js' greedy search takes it;
 * none where it takes the likeliest of all.
 * @param allowed - leaves out the tokens that cannot follow
 */
export function samplers(
  { temperature, topK, topP, minP, seed }: Sampling,
  allowed?: Filter,
): LogitsProcessorList | undefined {
  if (temperature === 0 && allowed === undefined) return undefined
  const list = new LogitsProcessorList()
  const keepBest = (filter: Filter) => list.push(new Filtered(filter) as never)
  if (allowed !== undefined) keepBest(allowed)
  if (temperature === 0) return list
  if (temperature !== 1) list.push(new TemperatureLogitsWarper(temperature) as never)
  if (topK > 0) keepBest((logits) => keepTopK(logits, topK))
  if (topP < 1) keepBest((logits) => keepTopP(logits, topP))
  if (minP > 0) keepBest((logits) => keepMinP(logits, minP))
  const generator = new random.Random(seed)
  keepBest((logits) => keepDrawn(logits, generator.random()))
  return list
}

/** Sets logits to -∞ in place. */
export type Filter = (logits: Float32Array) => void

/** A filter as transformers.js calls it, for a batch of one. */
class Filtered extends LogitsProcessor {
  readonly #filter: Filter

  constructor(filter: Filter) {
    super()
    this.#filter = filter
  }

  override _call(_ids: bigint[][], logits: Tensor): Tensor {
    this.#filter(logits.data as Float32Array)
    return logits
  }
}

/** Keeps the k largest, and what equals the smallest of them. */
function keepTopK(logits: Float32Array, k: number): void {
  if (k >= logits.length) return
  keepFrom(logits, logits.toSorted()[logits.length - k])
}

/** Keeps the fewest of the likeliest whose probabilities add up to at least `p`. */
function keepTopP(logits: Float32Array, p: number): void {
  const order = Array.from(logits.keys())
    .filter((at) => logits[at] > Number.NEGATIVE_INFINITY)
    .sort((a, b) => logits[b] - logits[a] || b - a)
  const weights = weightsOf(logits)
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  let sum = 0
  for (const at of order) {
    if (sum >= p * total) logits[at] = Number.NEGATIVE_INFINITY
    sum += weights[at]
  }
}

/** Keeps those whose probability is at least `p` times the largest. */
function keepMinP(logits: Float32Array, p: number): void {
  const weights = weightsOf(logits)
  for (const [at, weight] of weights.entries()) if (weight < p) logits[at] = Number.NEGATIVE_INFINITY
}

/** Keeps the one that a number from [0, 1) falls on, as `random.choices` of Python and of transformers.js do. */
export function keepDrawn(logits: Float32Array, drawn: number): void {
  const weights = weightsOf(logits)
  let left = drawn * weights.reduce((sum, weight) => sum + weight, 0)
  let chosen = -1
  for (const [at, weight] of weights.entries()) {
    if (weight === 0) continue
    chosen = at
    left -= weight
    if (left < 0) break
  }
  for (const at of logits.keys()) if (at !== chosen) logits[at] = Number.NEGATIVE_INFINITY
}

function keepFrom(logits: Float32Array, least: number): void {
  for (const [at, logit] of logits.entries()) if (logit < least) logits[at] = Number.NEGATIVE_INFINITY
}

/** Probabilities relative to the largest. */
function weightsOf(logits: Float32Array): Float64Array {
  const largest = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY)
  return Float64Array.from(logits, (logit) => Math.exp(logit - largest))
}
