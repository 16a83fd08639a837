import { TritswapError } from '../errors.ts'
import type { ResidentExpert, SetEntry } from '../gpu/index.ts'
import { type GraphPlan, planBypass } from './bypass_plan.ts'
import type { ExpertBinding } from './expert_bindings.ts'

/** An expert of a set, and how it meets the base; without a binding all of it is merged. */
export interface BoundEntry {
  readonly expert: ResidentExpert
  readonly weight: number
  readonly binding?: ExpertBinding
}

/** Experts that are current together. `id` counts up with every set; 0 is the untouched base. */
export interface ExpertSet {
  readonly id: number
  readonly experts: readonly BoundEntry[]
}

export const BASE_SET: ExpertSet = { id: 0, experts: [] }

/** What of a set is merged into the weights. */
export function mergedPart({ experts }: ExpertSet): SetEntry[] {
  return experts.flatMap(({ expert, weight, binding }): SetEntry[] => {
    if (binding === undefined) return [{ expert, weight }]
    return binding.merged.size > 0 && weight !== 0 ? [{ expert, weight, only: binding.merged }] : []
  })
}

/** What of a set lies beside the weights, by graph. @throws {TritswapError} as {@link planBypass} */
export function bypassPart({ experts }: ExpertSet): ReadonlyMap<string, GraphPlan> {
  return planBypass(experts.flatMap(({ binding, ...entry }) => (binding ? [{ ...entry, binding }] : [])))
}

/** @throws {TritswapError} `input` for weights that are no finite numbers */
export function checkWeights(experts: readonly BoundEntry[]): void {
  for (const { weight } of experts) {
    if (!Number.isFinite(weight)) {
      throw new TritswapError('input', `Cannot weigh an expert with ${weight}: expected a finite number`)
    }
  }
}
