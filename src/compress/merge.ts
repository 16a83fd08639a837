/**
 * Experts merged into one, which is compressed like any other task vector.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { isTernary, summaryOf } from '../format/codecs/index.ts'
import { checkActsEverywhere } from '../format/invocation.ts'
import { type BaseRecord, targetsOf } from '../format/table.ts'
import { weightsOf } from '../format/tiling.ts'
import { compressTaskVector } from './compress.ts'
import { checkExpansion } from './decode.ts'
import { TERMS_TRIED } from './defaults.ts'
import { isOfTerms, summedTerms, termsTogether } from './merge_terms.ts'
import { type MergeMethod, mergedTensor, mergedValues, rememberValues, sharesOf } from './merged_values.ts'
import { type OpenExpert, sameTensors, tensorNames } from './open_expert.ts'
import type { CompressContext, CompressReport, ExpertTexts } from './report.ts'
import type { RuleOptions } from './rules.ts'
import { checkSameBase, sketchByTarget } from './same_base.ts'
import type { TaskVector } from './task_vector.ts'

export interface MergeOptions
  extends Omit<RuleOptions, 'include' | 'exclude' | 'dense' | 'overrides'>,
    ExpertTexts {
  method: MergeMethod
  /** One for each expert, everywhere or for the tensors that change a target; 1 by default. */
  weights?: readonly number[] | ((target: string) => readonly number[])
  /** Fraction to keep; the largest density among the experts by default. */
  density?: number
  /** Keep the merged values as they are, in f16 or f32, instead of making them ternary again. */
  dense?: boolean
}

/**
 * Merges experts of one base into a new one. Tensors that were dense in any of them stay dense; tensors that an
 * expert lacks count as zero.
 *
 * @throws {TritswapError} `base` for experts of different bases, `input` for experts or options that do not fit
 */
export async function mergeExperts(
  experts: readonly OpenExpert[],
  options: MergeOptions,
  context: CompressContext,
): Promise<CompressReport> {
  const {
    method,
    dense = false,
    density = densestOf(experts),
    weights = experts.map(() => 1),
    ...rules
  } = options
  const sharesFor = (name: string) => {
    const found = typeof weights === 'function' ? weights(targetNamed(experts, name)) : weights
    checkWeights(experts, found, method)
    return sharesOf(found, method)
  }
  if (typeof weights !== 'function') checkWeights(experts, weights, method)
  checkSameBase(experts, 'merge')
  for (const { source, head } of experts) checkActsEverywhere(head.table, source.name, 'merge')
  for (const { source, head } of experts) {
    const all = head.table.tensors.reduce((sum, { shape }) => sum + weightsOf(shape), 0)
    checkExpansion(head, all, source.name, 'merge experts that change more of what they name')
  }
  const read = rememberValues((name) =>
    mergedValues(experts, name, method, sharesFor(name), { signal: context.signal }),
  )
  const all = tensorNames(experts)
  const isTerms = !dense && all.some((name) => isOfTerms(experts, name))
  // Only a sum of terms is of terms again. What is voted on entry by entry becomes terms anew.
  const summed = isTerms && method !== 'ties' ? all.filter((name) => isOfTerms(experts, name)) : []
  const names = all.filter((name) => !summed.includes(name))
  const own = await summedTerms(experts, summed, sharesFor, fewerTerms(rules), {
    signal: context.signal,
  })
  const task: TaskVector = {
    method: experts[0].head.table.method,
    tensors: names.map((name) => mergedTensor(experts, name, read)),
    baseRecord: (tensors) => mergedBase(experts, targetsOf(tensors)),
    sources: experts.map(({ source }) => source),
    notes: notesOf(experts, isTerms, method),
  }
  const stayDense = names.filter(
    (name) =>
      dense ||
      (!isOfTerms(experts, name) &&
        sameTensors(experts, name).some((tensor) => tensor && !isTernary(tensor))),
  )
  const chosen: RuleOptions & ExpertTexts = { ...rules, density, dense: stayDense.map(asGlob) }
  if (isTerms) {
    chosen.codec = 'terms'
    if (rules.bytes === undefined)
      chosen.terms = rules.terms ?? Math.max(...all.map((name) => termsTogether(experts, name)))
  }
  return compressTaskVector(task, chosen, context, own)
}

/** Terms of each tensor that are found anew, where an option asks for it. */
function fewerTerms({ terms, bytes }: RuleOptions): number | undefined {
  return bytes === undefined ? terms : TERMS_TRIED.lora
}

function notesOf(experts: readonly OpenExpert[], isTerms: boolean, method: MergeMethod): string[] {
  if (isTerms) return method === 'ties' ? [] : [SUM_NOTE]
  return experts[0].head.table.method === 'lora' ? [FACTORS_NOTE] : []
}

const SUM_NOTE =
  'In a sum of terms their errors add up, which one expert alone forgives: measure what each skill keeps'

const FACTORS_NOTE =
  'LoRA factors are merged entry by entry, as ComPEFT does: good for adapters that were trained from one start'

function targetNamed(experts: readonly OpenExpert[], name: string): string {
  return sameTensors(experts, name).find((tensor) => tensor !== undefined)!.target
}

/** @throws {TritswapError} `input` */
function checkWeights(experts: readonly OpenExpert[], weights: readonly number[], method: MergeMethod): void {
  if (experts.length === 0) throw new TritswapError('input', 'Cannot merge: expected experts, found none')
  if (weights.length !== experts.length || !weights.every(Number.isFinite)) {
    throw new TritswapError(
      'input',
      `Cannot merge ${experts.length} experts: expected as many weights, found ${weights.join(', ')}`,
      {
        fields: { weights: [...weights] },
      },
    )
  }
  if (method === 'average' && weights.reduce((sum, weight) => sum + weight, 0) === 0) {
    throw new TritswapError('input', 'Cannot average: the weights add up to 0; use task-arithmetic')
  }
}

/** What the experts together know of their base; a sketch only if it covers all targets. */
function mergedBase(experts: readonly OpenExpert[], targets: readonly string[]): BaseRecord {
  const records = experts.map(({ head }) => head.table.base)
  const known = new Map(experts.flatMap((expert) => [...sketchByTarget(expert)]))
  const sketches = targets.map((target) => known.get(target))
  return {
    name: records.find(({ name }) => name !== undefined)?.name,
    fingerprint: records.find(({ fingerprint }) => fingerprint !== undefined)?.fingerprint,
    sketch: sketches.every((sketch) => sketch !== undefined)
      ? Uint16Array.from(sketches.flatMap((sketch) => [...sketch]))
      : undefined,
    dtype: records.find(({ dtype }) => dtype !== undefined)?.dtype,
  }
}

/** The largest density among the ternary tensors of each expert. */
function densestOf(experts: readonly OpenExpert[]): number | undefined {
  const densities = experts.flatMap(({ head }) => {
    const ternary = head.table.tensors.filter(isTernary)
    const weights = ternary.reduce((sum, { shape }) => sum + weightsOf(shape), 0)
    const kept = ternary.reduce((sum, tensor) => sum + summaryOf(tensor).kept, 0)
    return kept === 0 ? [] : [kept / weights]
  })
  return densities.length === 0 ? undefined : Math.max(...densities)
}

/** A glob that matches one name. */
function asGlob(name: string): string {
  return name.replace(/[\\*?[\]{}()!+@|]/g, '\\$&')
}
