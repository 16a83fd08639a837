import { TritswapError } from '../errors.ts'
import { isAddition } from '../format/contributions.ts'
import type { BypassTerm } from './bypass_terms.ts'
import type { BoundEntry } from './expert_set.ts'

/**
 * Lets scales that lie beside a weight be merged into it where other experts of the set merge something: a site
 * multiplies all that its weight holds, and (IA)³ scales the base alone. Merged, the scales come first, as in
 * `format/contributions.ts`.
 *
 * @throws {TritswapError} `unsupported` where a scale cannot be merged
 */
export function withMergedScales<E extends BoundEntry>(entries: readonly E[]): readonly E[] {
  if (entries.every((entry) => scalesOf(entry).length === 0)) return entries
  const changed = targetsOfAdditions(entries)
  return entries.map((entry) => {
    const { binding, expert } = entry
    const scales = scalesOf(entry).filter(({ part }) => changed.has(part.target))
    if (binding === undefined || scales.length === 0) return entry
    const moved = new Set(scales.map(({ index }) => index))
    for (const index of moved) {
      if (binding.mergeable?.has(index)) continue
      const { name, target } = expert.table.tensors[index]
      throw new TritswapError(
        'unsupported',
        `Cannot use ${name} with the other experts: it scales ${target} beside the weight, and they are merged into it; load all of them with the binding input`,
        { fields: { tensor: name, target } },
      )
    }
    const bypass = binding.bypass.filter((term) => !isScale(term) || !moved.has(term.index))
    return { ...entry, binding: { ...binding, merged: new Set([...binding.merged, ...moved]), bypass } }
  })
}

type ScaleTerm = Extract<BypassTerm, { kind: 'inputScale' | 'outputScale' }>

function isScale(term: BypassTerm): term is ScaleTerm {
  return term.kind === 'inputScale' || term.kind === 'outputScale'
}

function scalesOf({ binding, weight }: BoundEntry): ScaleTerm[] {
  return weight === 0 || binding === undefined ? [] : binding.bypass.filter(isScale)
}

/** Weights into which a set merges more than scales. */
function targetsOfAdditions(entries: readonly BoundEntry[]): Set<string> {
  const targets = new Set<string>()
  for (const { expert, weight, binding } of entries) {
    if (weight === 0) continue
    for (const [index, tensor] of expert.table.tensors.entries())
      if (isAddition(tensor) && (binding === undefined || binding.merged.has(index)))
        targets.add(tensor.target)
  }
  return targets
}
