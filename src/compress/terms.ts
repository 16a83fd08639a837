/**
 * Changes as ternary rank-1 terms: which factors belong together, how many terms each target gets, and its section.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { encodeTerms, keptIn, smallerPacking, type Terms, termsBytes } from '../format/codecs/terms_code.ts'
import { factorOf } from '../format/contributions.ts'
import { numberedName } from '../format/numbered.ts'
import type { ModuleLayout } from '../format/table.ts'
import type { NewTensorWithoutBytes } from '../format/writer.ts'
import { parseAdapterName } from './adapter_names.ts'
import type { RunJob, TermsJob } from './jobs.ts'
import { pipelined } from './pipeline.ts'
import { changeWeights } from './report.ts'
import { isTermsRule, type TensorRule, type TermsRule } from './rules.ts'
import type { Decomposition } from './semidiscrete.ts'
import type { TaskTensor } from './task_vector.ts'

/** A target that is written as terms. */
interface Named {
  /** What it is changed by: the names of LoRA's factors, or of the tensor itself. */
  names: readonly string[]
  /** Of the tensor to write. */
  name: string
  target: string
  layout: ModuleLayout | undefined
  /** Of the target, in the checkpoint's layout. */
  shape: readonly number[]
  isLengthened?: boolean
}

/** A target whose change becomes terms. */
export interface TermsTarget extends Named {
  change: TermsJob['change']
  rule: TermsRule
}

/** A target with its terms, and how many of them are kept. */
export interface DecomposedTarget extends Named {
  decomposition: Decomposition
  /** As {@link keptByTerm}. */
  kept: readonly number[]
  count: number
}

interface Chosen<Rule extends TensorRule = TensorRule> {
  tensor: TaskTensor
  rule: Rule
}

/** Weights of changes that are decomposed at once. */
const WEIGHTS_AHEAD = 2 ** 22

/**
 * Takes what becomes terms out of the tensors that are compressed: LoRA pairs, and deltas.
 * @throws {TritswapError} `input` for a factor whose other one has another rule
 */
export function takeTerms(chosen: readonly Chosen[]): {
  targets: TermsTarget[]
  others: Chosen<Exclude<TensorRule, TermsRule>>[]
} {
  const factors = new Map<string, { a?: TaskTensor; b?: TaskTensor }>()
  const targets: TermsTarget[] = []
  const others: Chosen<Exclude<TensorRule, TermsRule>>[] = []
  for (const { tensor, rule } of chosen) {
    if (!isTermsRule(rule)) {
      others.push({ tensor, rule })
      continue
    }
    const { name, target, layout, shape } = tensor
    const factor = factorOf(tensor)
    if (factor === undefined) {
      targets.push({ names: [name], name, target, layout, shape, change: { tensor }, rule })
      continue
    }
    const key = `${target} ${layout === 'embedding'}`
    const pair = factors.get(key) ?? {}
    pair[factor] = tensor
    factors.set(key, pair)
    const { a, b } = pair
    if (a === undefined || b === undefined) continue
    factors.delete(key)
    targets.push(pairTarget(a, b, rule))
  }
  for (const { a, b } of factors.values()) {
    const { name } = (a ?? b)!
    throw new TritswapError(
      'input',
      `Cannot compress ${name} to terms: the other factor of its target is left out or kept dense; give both the same rule`,
      { fields: { tensor: name } },
    )
  }
  const of = ({ target, shape, layout }: TermsTarget) => ({ target, kind: `${shape} ${layout}` })
  return { targets: inFileOrder(targets, of), others }
}

function pairTarget(a: TaskTensor, b: TaskTensor, rule: TermsRule): TermsTarget {
  const { layout, target, scaling = 1 } = b
  const transposed = layout === 'conv1d' || layout === 'embedding'
  const [inputs, outputs] = [a.shape.slice(1), b.shape[0]]
  return {
    names: [a.name, b.name],
    name: `${parseAdapterName(b.name).path}.weight`,
    target,
    layout,
    shape: transposed ? [...inputs, outputs] : [outputs, ...inputs],
    isLengthened: b.isLengthened,
    change: { a: a.theta, b: b.theta, scaling, transposed },
    rule,
  }
}

/**
 * Targets whose names differ in one number follow one another, so that a table can name them together.
 * @param of - the name of the target, and what else has to be alike
 */
export function inFileOrder<T>(items: readonly T[], of: (item: T) => { target: string; kind: string }): T[] {
  const groups = new Map<string, { item: T; number: number }[]>()
  for (const item of items) {
    const { target, kind } = of(item)
    const numbered = numberedName(target)
    const key = `${numbered?.pattern ?? target} ${kind}`
    groups.set(key, [...(groups.get(key) ?? []), { item, number: numbered?.number ?? 0 }])
  }
  return [...groups.values()].flatMap((group) =>
    group.sort((a, b) => a.number - b.number).map(({ item }) => item),
  )
}

/**
 * Terms of all targets: as many as the rule says, or as many as are tried for a file of some size.
 * @returns targets that change, and the names of the tensors of the others
 */
export async function decomposeTargets(
  targets: readonly TermsTarget[],
  run: RunJob,
  signal?: AbortSignal,
): Promise<{ found: DecomposedTarget[]; unmoved: string[] }> {
  const found: DecomposedTarget[] = []
  const unmoved: string[] = []
  const work = pipelined(
    targets,
    ({ change }) => changeWeights(change),
    WEIGHTS_AHEAD,
    ({ change, rule }) => run('terms', { change, count: rule.terms }, signal),
  )
  for await (const [{ change, rule, ...target }, decomposition] of work) {
    const count = decomposition.steps.length
    if (count === 0) unmoved.push(...target.names)
    else found.push({ ...target, decomposition, kept: keptByTerm(decomposition), count })
  }
  return { found, unmoved }
}

/** Entries that are not 0 in the first 1, 2, … terms. */
export function keptByTerm({ x, y, steps }: Decomposition): number[] {
  const [rows, cols] = [x, y].map(({ length }) => length / steps.length)
  let sum = 0
  return steps.map((_, t) => {
    sum += keptIn(x.subarray(t * rows, (t + 1) * rows)) + keptIn(y.subarray(t * cols, (t + 1) * cols))
    return sum
  })
}

/** Bytes of the section with so many of its terms. */
function sectionBytes({ shape, kept }: DecomposedTarget, count: number): number {
  if (count === 0) return 0
  const entries = kept[count - 1]
  return termsBytes(shape, count, smallerPacking(shape, count, entries), entries)
}

/**
 * Chooses terms over all targets until their sections fill `budget` bytes: those first that have the most energy for their
 * bytes.
 * @returns the targets that keep any
 */
function chooseTerms(pairs: readonly DecomposedTarget[], budget: number): DecomposedTarget[] {
  const counts = new Map<DecomposedTarget, number>(pairs.map((pair) => [pair, 0]))
  const open = new Set(pairs)
  let left = budget
  while (open.size > 0) {
    let best: { pair: DecomposedTarget; gain: number; bytes: number } | undefined
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
function nextTerm(target: DecomposedTarget, count: number): { gain: number; bytes: number } | undefined {
  const { steps, squares } = target.decomposition
  if (count >= steps.length) return undefined
  const energy = steps[count].energy - (count === 0 ? 0 : steps[count - 1].energy)
  const bytes = sectionBytes(target, count + 1) - sectionBytes(target, count)
  return { gain: (energy * squares) / bytes, bytes }
}

/**
 * The terms that make a file of at most `bytes`.
 * @param sizeOf - bytes of the file with some of them
 * @throws {TritswapError} `input` where the file is larger with any
 */
export async function termsWithin(
  pairs: readonly DecomposedTarget[],
  bytes: number,
  sizeOf: (kept: readonly DecomposedTarget[]) => Promise<number>,
): Promise<DecomposedTarget[]> {
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
    budget = kept.reduce((sum, target) => sum + sectionBytes(target, target.count), -over)
  }
}

/**
 * The tensor and the section of a target. Its scales are those of least squares over the energy that the terms have: so the
 * projection on the change is 1, where the least squares alone fall short of it.
 * @throws {TritswapError} `input` for scales that no f32 holds
 */
export function termsTensor({
  name,
  target,
  layout,
  shape,
  isLengthened,
  decomposition,
  count,
}: DecomposedTarget): {
  tensor: NewTensorWithoutBytes
  section: Uint8Array<ArrayBuffer>
} {
  const { x, y, steps } = decomposition
  const { scales, energy } = steps[count - 1]
  const unbiased = Float32Array.from(scales, (scale) => (isLengthened ? scale : scale / energy))
  if (!unbiased.every(Number.isFinite))
    throw new TritswapError('input', `Cannot compress ${name}: its terms are over the largest f32`, {
      fields: { tensor: name },
    })
  const rows = x.length / steps.length
  const cols = y.length / steps.length
  const { packing, section } = packed(shape, {
    scales: unbiased,
    x: x.subarray(0, count * rows),
    y: y.subarray(0, count * cols),
  })
  return {
    tensor: {
      name,
      target,
      shape,
      role: 'delta',
      layout,
      codec: 'terms',
      terms: count,
      packing,
    },
    section,
  }
}

/** The section of some terms in the packing that makes it smaller. */
export function packed(shape: readonly number[], terms: Terms) {
  const packing = smallerPacking(shape, terms.scales.length, keptIn(terms.x) + keptIn(terms.y))
  return { packing, section: encodeTerms(shape, terms, packing) }
}
