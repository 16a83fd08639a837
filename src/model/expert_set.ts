import { TritswapError } from '../errors.ts'
import type { ResidentExpert, SetEntry } from '../gpu/index.ts'
import { type GraphPlan, planBypass } from './bypass_plan.ts'
import type { ExpertBinding } from './expert_bindings.ts'
import { entriesByGroup, type LayerFactors } from './layer_groups.ts'

/** An expert of a set, and how it meets the base; without a binding all of it is merged. */
export interface BoundEntry {
  readonly expert: ResidentExpert
  readonly weight: number
  readonly binding?: ExpertBinding
  /** What the weight is multiplied with by layers; takes a binding. */
  readonly groups?: LayerFactors
}

/** Experts that are current together. `id` counts up with every set; 0 is the untouched base. */
export interface ExpertSet {
  readonly id: number
  readonly experts: readonly BoundEntry[]
  /** The set that it is a part of. */
  readonly whole?: ExpertSet
}

export const BASE_SET: ExpertSet = { id: 0, experts: [] }

/** The part of a set whose experts act; the set itself where all do. The same experts give the same part, of the set's id. */
export function actingPart(set: ExpertSet, acts: (expert: ResidentExpert) => boolean): ExpertSet {
  const acting = set.experts.map(({ expert }) => acts(expert))
  if (acting.every(Boolean)) return set
  if (!acting.some(Boolean)) return BASE_SET
  const known = parts.get(set) ?? new Map<string, ExpertSet>()
  parts.set(set, known)
  const part = known.get(String(acting)) ?? {
    id: set.id,
    experts: set.experts.filter((_, i) => acting[i]),
    whole: set,
  }
  known.set(String(acting), part)
  return part
}

const parts = new WeakMap<ExpertSet, Map<string, ExpertSet>>()

/** What of a set is merged into the weights. */
export function mergedPart({ experts }: ExpertSet): SetEntry[] {
  return experts.flatMap((entry): SetEntry[] => {
    if (!isBound(entry)) return [{ expert: entry.expert, weight: entry.weight }]
    return partsOf(entry).flatMap(({ expert, weight, binding: { merged } }) =>
      merged.size > 0 && weight !== 0 ? [{ expert, weight, only: merged }] : [],
    )
  })
}

/** What of a set lies beside the weights, by graph. @throws {TritswapError} as {@link planBypass} */
export function bypassPart({ experts }: ExpertSet): ReadonlyMap<string, GraphPlan> {
  return planBypass(experts.flatMap((entry) => (isBound(entry) ? partsOf(entry) : [])))
}

type WithBinding = BoundEntry & { readonly binding: ExpertBinding }

function isBound(entry: BoundEntry): entry is WithBinding {
  return entry.binding !== undefined
}

/** Remembered, because every forward pass asks for them. */
function partsOf(entry: WithBinding): readonly WithBinding[] {
  const found = partsByGroup.get(entry) ?? entriesByGroup(entry)
  partsByGroup.set(entry, found)
  return found
}

const partsByGroup = new WeakMap<WithBinding, readonly WithBinding[]>()

/** @throws {TritswapError} `input` for weights that are not finite numbers */
export function checkWeights(experts: readonly BoundEntry[]): void {
  for (const { weight } of experts) {
    if (!Number.isFinite(weight)) {
      throw new TritswapError('input', `Cannot weigh an expert with ${weight}: expected a finite number`)
    }
  }
}
