/**
 * LoRA pairs as ternary rank-1 terms: which factors belong together, how many terms each target gets, and its section.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { encodeTerms, termsBytes } from '../format/codecs/terms_code.ts'
import { factorOf } from '../format/contributions.ts'
import { numberedName } from '../format/numbered.ts'
import type { NewTensorWithoutBytes } from '../format/writer.ts'
import { parseAdapterName } from './adapter_names.ts'
import { TERMS_TRIED } from './defaults.ts'
import type { RunJob } from './jobs.ts'
import { pipelined } from './pipeline.ts'
import { isTermsRule, type TensorRule, type TermsRule } from './rules.ts'
import type { Decomposition } from './semidiscrete.ts'
import type { TaskTensor } from './task_vector.ts'

/** The factors of one target. */
export interface TermsPair {
  a: TaskTensor
  b: TaskTensor
  rule: TermsRule
  /** Of the target, in the checkpoint's layout. */
  shape: readonly number[]
  /** The target keeps its weight as [in, out]. */
  transposed: boolean
}

/** A pair with its terms, and how many of them are kept. */
export interface DecomposedPair extends TermsPair {
  decomposition: Decomposition
  count: number
}

interface Chosen<Rule extends TensorRule = TensorRule> {
  tensor: TaskTensor
  rule: Rule
}

/** Weights of factors that are decomposed at once. */
const WEIGHTS_AHEAD = 2 ** 22

/**
 * Takes the pairs out of the tensors that are compressed.
 * @throws {TritswapError} `input` for a factor whose other one has another rule
 */
export function takePairs(chosen: readonly Chosen[]): {
  pairs: TermsPair[]
  others: Chosen<Exclude<TensorRule, TermsRule>>[]
} {
  const factors = new Map<string, { a?: TaskTensor; b?: TaskTensor }>()
  const pairs: TermsPair[] = []
  const others: Chosen<Exclude<TensorRule, TermsRule>>[] = []
  for (const { tensor, rule } of chosen) {
    const { target, layout } = tensor
    const factor = factorOf(tensor)
    if (!isTermsRule(rule)) {
      others.push({ tensor, rule })
      continue
    }
    const key = `${target} ${layout === 'embedding'}`
    const pair = factors.get(key) ?? {}
    // The rule is for factors alone.
    pair[factor!] = tensor
    factors.set(key, pair)
    const { a, b } = pair
    if (a === undefined || b === undefined) continue
    factors.delete(key)
    const transposed = layout === 'conv1d' || layout === 'embedding'
    const [inputs, outputs] = [a.shape.slice(1), b.shape[0]]
    const shape = transposed ? [...inputs, outputs] : [outputs, ...inputs]
    pairs.push({ a, b, rule, shape, transposed })
  }
  for (const { a, b } of factors.values()) {
    const { name } = (a ?? b)!
    throw new TritswapError(
      'input',
      `Cannot compress ${name} to terms: the other factor of its target is left out or kept dense; give both the same rule`,
      { fields: { tensor: name } },
    )
  }
  return { pairs: inFileOrder(pairs), others }
}

/** Targets whose names differ in one number follow one another, so that a table can name them together. */
function inFileOrder(pairs: readonly TermsPair[]): TermsPair[] {
  const groups = new Map<string, { pair: TermsPair; number: number }[]>()
  for (const pair of pairs) {
    const { target, layout } = pair.b
    const numbered = numberedName(target)
    const key = `${numbered?.pattern ?? target} ${pair.shape} ${layout}`
    groups.set(key, [...(groups.get(key) ?? []), { pair, number: numbered?.number ?? 0 }])
  }
  return [...groups.values()].flatMap((group) =>
    group.sort((a, b) => a.number - b.number).map(({ pair }) => pair),
  )
}

/**
 * Terms of all pairs: as many as the rule says, or as many as are tried for a file of some size.
 * @returns pairs that change something, and the names of the factors of the others
 */
export async function decomposePairs(
  pairs: readonly TermsPair[],
  run: RunJob,
  signal?: AbortSignal,
): Promise<{ found: DecomposedPair[]; unmoved: string[] }> {
  const found: DecomposedPair[] = []
  const unmoved: string[] = []
  const work = pipelined(
    pairs,
    ({ a, b }) => a.theta.weights + b.theta.weights,
    WEIGHTS_AHEAD,
    ({ a, b, transposed, rule }) => {
      const job = { a: a.theta, b: b.theta, scaling: b.scaling ?? 1, transposed }
      return run('terms', { ...job, count: rule.terms ?? TERMS_TRIED }, signal)
    },
  )
  for await (const [pair, decomposition] of work) {
    const count = decomposition.steps.length
    if (count === 0) unmoved.push(pair.a.name, pair.b.name)
    else found.push({ ...pair, decomposition, count })
  }
  return { found, unmoved }
}

/**
 * Chooses terms over all pairs until their sections fill `budget` bytes: those first that have the most energy for their
 * bytes.
 * @returns the pairs that keep any
 */
function chooseTerms(pairs: readonly DecomposedPair[], budget: number): DecomposedPair[] {
  const counts = new Map<DecomposedPair, number>(pairs.map((pair) => [pair, 0]))
  const open = new Set(pairs)
  let left = budget
  while (open.size > 0) {
    let best: { pair: DecomposedPair; gain: number; bytes: number } | undefined
    for (const pair of open) {
      const next = nextTerm(pair, counts.get(pair)!)
      if (next === undefined || next.bytes > left) open.delete(pair)
      else if (best === undefined || next.gain > best.gain) best = { pair, ...next }
    }
    if (best === undefined) break
    counts.set(best.pair, counts.get(best.pair)! + 1)
    left -= best.bytes
  }
  return pairs.flatMap((pair) => (counts.get(pair)! > 0 ? [{ ...pair, count: counts.get(pair)! }] : []))
}

/** What one term more costs, and the energy that it has for each byte. */
function nextTerm(
  { decomposition: { steps, squares }, shape }: DecomposedPair,
  count: number,
): { gain: number; bytes: number } | undefined {
  if (count >= steps.length) return undefined
  const energy = steps[count].energy - (count === 0 ? 0 : steps[count - 1].energy)
  const bytes = termsBytes(shape, count + 1) - (count === 0 ? 0 : termsBytes(shape, count))
  return { gain: (energy * squares) / bytes, bytes }
}

/**
 * The terms that make a file of at most `bytes`.
 * @param sizeOf - bytes of the file with some of them
 * @throws {TritswapError} `input` where the file is larger with any
 */
export async function termsWithin(
  pairs: readonly DecomposedPair[],
  bytes: number,
  sizeOf: (kept: readonly DecomposedPair[]) => Promise<number>,
): Promise<DecomposedPair[]> {
  let budget = bytes
  for (;;) {
    const kept = chooseTerms(pairs, budget)
    if (kept.length === 0)
      throw new TritswapError(
        'input',
        `Cannot compress to ${bytes} bytes: what the file holds besides terms leaves no room for one; give a larger size`,
        { fields: { bytes } },
      )
    const over = (await sizeOf(kept)) - bytes
    if (over <= 0) return kept
    budget = kept.reduce((sum, { shape, count }) => sum + termsBytes(shape, count), -over)
  }
}

/**
 * The tensor and the section of a pair. Its scales are those of least squares over the energy that the terms have: so the
 * projection on the product of the factors is 1, where the least squares alone fall short of it.
 * @throws {TritswapError} `input` for scales that no f32 holds
 */
export function termsTensor({ b, shape, decomposition, count }: DecomposedPair): {
  tensor: NewTensorWithoutBytes
  section: Uint8Array<ArrayBuffer>
} {
  const { x, y, steps } = decomposition
  const { scales, energy } = steps[count - 1]
  const { target, layout } = b
  const unbiased = Float32Array.from(scales, (scale) => (b.isLengthened ? scale : scale / energy))
  if (!unbiased.every(Number.isFinite))
    throw new TritswapError('input', `Cannot compress ${b.name}: its terms are over the largest f32`, {
      fields: { tensor: b.name },
    })
  const rows = x.length / steps.length
  const cols = y.length / steps.length
  const section = encodeTerms(shape, {
    scales: unbiased,
    x: x.subarray(0, count * rows),
    y: y.subarray(0, count * cols),
  })
  return {
    tensor: {
      name: `${parseAdapterName(b.name).path}.weight`,
      target,
      shape,
      role: 'delta',
      layout,
      codec: 'terms',
      terms: count,
    },
    section,
  }
}
