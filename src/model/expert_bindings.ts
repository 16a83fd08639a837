/**
 * How each tensor of an expert meets the base: merged into float weights, or through a bypass of the graph, as ternary
 * codes or as the adapter's own tensors.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { type Contribution, checkRank, contributionsOf, tensorsOf } from '../format/contributions.ts'
import type { FloatInputDtype } from '../format/dtype.ts'
import type { TritTable, TritTensor } from '../format/index.ts'
import { type Circumstances, type WeighedBinding, weigh } from './binding_costs.ts'
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

/**
 * Decides how an expert meets the base.
 *
 * @param choice - `auto` merges floats; {@link weighBinding} says where `input` costs less
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
  const contributions = usedContributions(table, weights, unused)
  for (const contribution of contributions) checkRank(contribution)
  const merged = new Set<number>()
  const mergeable = new Set<number>()
  const bypass: BypassTerm[] = []
  for (const contribution of contributions) {
    const { target } = contribution
    const [{ tensor }] = tensorsOf(contribution)
    const floats = weights.floatPlacementsOf(target)
    if (contribution.kind === 'steps') {
      if (choice === 'input' || choice === 'side')
        throw unsupported(
          tensor,
          `it is lossless, and counts from the base's own weights: use merge, not ${choice}`,
        )
      if (floats.length === 0 || weights.isQuantized(target))
        throw unsupported(
          tensor,
          `it is lossless, and counts from the base's own weights, which are quantized in ${target}: use a base of floats`,
        )
      merged.add(contribution.index)
      continue
    }
    const { terms, isPartial } = termsOf(contribution, sites, choice === 'input')
    // No weight changes, so it is beside the weights whatever they are.
    if (contribution.kind === 'virtual') {
      if (terms.length !== 1)
        throw unsupported(
          tensor,
          contribution.isCache
            ? `${terms.length} graphs take ${target}, and it is for one`
            : `the ids of a prompt are looked up in ${target} at ${terms.length} places`,
        )
      bypass.push(...terms)
      continue
    }
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
    if (isQuantized && choice === 'merge') {
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
      (term) => !onQuantized.includes(term) && (choice === 'input' || term.kind === 'side'),
    )
    const bypassed = new Set(onFloats.map(({ site }) => site.weight))
    const isComplete =
      floats.length > 0 &&
      onFloats.length === terms.length - onQuantized.length &&
      (onFloats.some(({ kind }) => kind === 'bias') ||
        floats.every(({ input }) => bypassed.has(input) && sites.covers(input)))
    if (isComplete && (choice === 'input' || choice === 'side')) {
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

/**
 * Which of `merge` and `input` costs an adapter less where the weights are floats; undefined for what is not an adapter, or leaves
 * no choice.
 * @param before - what was chosen the last time
 */
export function weighBinding(
  table: TritTable,
  weights: BoundWeights,
  sites: SiteIndex,
  circumstances: Circumstances,
  before?: WeighedBinding['binding'],
  unused: ReadonlySet<string> = new Set(),
): WeighedBinding | undefined {
  if (table.method === 'full') return undefined
  const changed = usedContributions(table, weights, unused).filter(
    ({ kind, target }) => kind !== 'delta' && kind !== 'virtual' && !weights.isQuantized(target),
  )
  return changed.length === 0 ? undefined : weigh(changed, sites, circumstances, before)
}

function usedContributions(
  table: TritTable,
  weights: BoundWeights,
  unused: ReadonlySet<string>,
): Contribution[] {
  return contributionsOf(table.tensors, (tensor) => weights.floatPlacementsOf(tensor).length > 0).filter(
    ({ target }) => !unused.has(target),
  )
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

function unsupported({ name, target }: TritTensor, why: string): TritswapError {
  return new TritswapError('unsupported', `Cannot use ${name}: ${why}`, { fields: { tensor: name, target } })
}
