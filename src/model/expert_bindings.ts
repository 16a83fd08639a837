/**
 * How each tensor of an expert meets the base: merged into float weights, or through a bypass of the graph, as ternary
 * codes or as the adapter's own tensors.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { type Contribution, checkRank, contributionsOf, tensorsOf } from '../format/contributions.ts'
import { ELEMENT_BYTES, type FloatInputDtype } from '../format/dtype.ts'
import type { TritTable, TritTensor } from '../format/index.ts'
import { type BypassTerm, termsOf } from './bypass_terms.ts'
import type { SiteIndex } from './site_index.ts'

/**
 * `merge`: added to weights in place. `side`: ternary, beside the weights. `input`: the adapter's own tensors, beside
 * the weights.
 */
export type Binding = 'merge' | 'side' | 'input'

/** `auto`: what costs least for the kind of expert and of base. */
export type BindingChoice = Binding | 'auto'

/** How an expert meets a base. */
export interface ExpertBinding {
  /** Tensors of its table that are merged. */
  merged: ReadonlySet<number>
  bypass: readonly BypassTerm[]
  /** Tensors with scales in `bypass` that could be merged as well; none by default. */
  mergeable?: ReadonlySet<number>
}

/** What bindings depend on of the weights in VRAM. */
export interface BoundWeights {
  /** Graph inputs that hold a target in floats. */
  floatPlacementsOf(target: string): readonly { input: string; dtype: FloatInputDtype }[]
  /** Whether a target is quantized in one of its inputs. */
  isQuantized(target: string): boolean
}

/** Tokens over which a switch has to pay off. */
const TOKENS_PER_SWITCH = 32
/** Bytes that a GPU could move in the time that one more dispatch takes. */
const BYTES_PER_DISPATCH = 1 << 20
/** Dispatches that a term adds to each token. */
const DISPATCHES = { lowRank: 4, terms: 4, scale: 1 } as const
/** A merge that saves a tensor reads and writes it twice. */
const PASSES_OF_MERGE = 4

/**
 * Decides how an expert meets the base.
 *
 * @param table - of the expert, with targets as the base calls them and shapes that fit them
 * @param unused - targets that no graph uses: their tensors are left out
 * @throws {TritswapError} `unsupported` where the binding asked for is impossible, or a tensor has no weight that can
 * be changed; and as {@link contributionsOf}
 */
export function bindExpert(
  table: TritTable,
  choice: BindingChoice,
  weights: BoundWeights,
  sites: SiteIndex,
  unused: ReadonlySet<string> = new Set(),
): ExpertBinding {
  const contributions = contributionsOf(
    table.tensors,
    (tensor) => weights.floatPlacementsOf(tensor).length > 0,
  ).filter(({ target }) => !unused.has(target))
  for (const contribution of contributions) checkRank(contribution)
  const prefersInput =
    choice === 'auto' && table.method !== 'full' && costsLess(contributions, weights, sites)
  const preferred = prefersInput ? 'input' : choice
  const merged = new Set<number>()
  const mergeable = new Set<number>()
  const bypass: BypassTerm[] = []
  for (const contribution of contributions) {
    const { target } = contribution
    const [{ tensor }] = tensorsOf(contribution)
    const { terms, isPartial } = termsOf(contribution, sites, preferred === 'input')
    // No weight changes, so it is beside the weights whatever they are.
    if (contribution.kind === 'virtual') {
      if (terms.length !== 1)
        throw unsupported(tensor, `the ids of a prompt are looked up in ${target} at ${terms.length} places`)
      bypass.push(...terms)
      continue
    }
    const floats = weights.floatPlacementsOf(target)
    if (contribution.kind === 'delta' && contribution.ofEmbedding !== undefined) {
      const isSeen = terms.length > 0 && floats.every(({ input }) => sites.covers(input))
      if (!isSeen)
        throw unsupported(tensor, `the graph shares ${target} between modules that it does not tell apart`)
    }
    // Biases stay floats where the weights of their site are quantized.
    const onQuantized = terms.filter(({ site, kind }) => site.quantized && kind !== 'bias')
    const isQuantized = isPartial
      ? onQuantized.length > 0
      : weights.isQuantized(target) || floats.length === 0
    if (isQuantized && preferred === 'merge') {
      throw unsupported(tensor, 'its weights stay quantized: use another binding, or a base of floats')
    }
    if (isQuantized && onQuantized.length === 0) {
      throw unsupported(tensor, `nothing can be put beside the quantized weights of ${target}`)
    }
    if (isPartial) {
      if (terms.length === 0)
        throw unsupported(tensor, `nothing can be put beside one of the modules that share ${target}`)
      bypass.push(...terms)
      continue
    }
    bypass.push(...onQuantized)
    // Merged scales would reach the weight, and not a bias that the graph keeps or that goes by another name.
    if (terms.some((term) => scalesOtherBias(contribution, term))) {
      if (terms.length < sites.of(target).length)
        throw unsupported(tensor, `the bias behind ${target} is out of reach`)
      bypass.push(...terms.filter((term) => !onQuantized.includes(term)))
      continue
    }
    // All float inputs that hold a target change together, by a merge or by bypasses.
    const onFloats = terms.filter(
      (term) => !onQuantized.includes(term) && (preferred === 'input' || term.kind === 'side'),
    )
    const bypassed = new Set(onFloats.map(({ site }) => site.weight))
    const isComplete =
      floats.length > 0 &&
      onFloats.length === terms.length - onQuantized.length &&
      (onFloats.some(({ kind }) => kind === 'bias') ||
        floats.every(({ input }) => bypassed.has(input) && sites.covers(input)))
    if (isComplete && (preferred === 'input' || preferred === 'side')) {
      bypass.push(...onFloats)
      if (contribution.kind === 'scale' && onQuantized.length === 0) mergeable.add(contribution.index)
    } else if (floats.length > 0) for (const { index } of tensorsOf(contribution)) merged.add(index)
  }
  if (choice === 'side' && !bypass.some(({ kind }) => kind === 'side')) {
    throw new TritswapError(
      'unsupported',
      'Cannot use this expert by side: none of its tensors is a ternary change of a linear weight; use merge or input',
      { fields: { binding: choice } },
    )
  }
  return { merged, bypass, mergeable }
}

/** Whether the outputs that a term scales have a bias which the contribution has no scale for. */
function scalesOtherBias(contribution: Contribution, { kind, site, part }: BypassTerm): boolean {
  if (contribution.kind !== 'scale' || kind !== 'outputScale') return false
  const end = part.firstOutput + (part.transposed ? part.cols : part.rows)
  const own = site.bias.filter(
    ({ firstOutput, outputs }) => firstOutput < end && firstOutput + outputs > part.firstOutput,
  )
  return site.hasFixedBias || own.some(({ target }) => target !== contribution.bias?.target)
}

/**
 * Whether an adapter costs less as inputs than merged: a merge rewrites whole weights at every switch and keeps a copy
 * of them, inputs cost a few dispatches for every token.
 */
function costsLess(contributions: readonly Contribution[], weights: BoundWeights, sites: SiteIndex): boolean {
  let merge = 0
  let input = 0
  for (const { kind, target } of contributions) {
    if (kind === 'delta' || kind === 'virtual') continue
    const [at] = sites.of(target)
    if (at === undefined) continue
    for (const { dtype } of weights.floatPlacementsOf(target)) {
      merge += PASSES_OF_MERGE * at.part.rows * at.part.cols * ELEMENT_BYTES[dtype]
      input += DISPATCHES[kind] * BYTES_PER_DISPATCH
    }
  }
  return merge > TOKENS_PER_SWITCH * input
}

function unsupported({ name, target }: TritTensor, why: string): TritswapError {
  return new TritswapError('unsupported', `Cannot use ${name}: ${why}`, { fields: { tensor: name, target } })
}
