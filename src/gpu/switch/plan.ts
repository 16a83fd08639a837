/**
 * What a set of experts does to each base tensor, as the switcher's kernels take it.
 *
 * @module
 */
import { TritswapError } from '../../errors.ts'
import {
  type Contribution,
  checkFit,
  checkRank,
  checkSteps,
  contributionsOf,
  isWholeTensor,
  type TensorRef,
  tensorsOf,
} from '../../format/contributions.ts'
import { type TritTable, type TritTensor, tilingOf } from '../../format/index.ts'
import { MAX_STREAMS } from '../job.ts'
import { streamForm } from '../stream_form.ts'
import type { WeightStore } from '../weights/weight_store.ts'

/** Experts that may be active together: what the kernels' parameters have room for. */
export const MAX_EXPERTS = MAX_STREAMS

/** An expert of a set. */
export interface PlanEntry {
  table: TritTable
  weight: number
  /** Tensors of the table that are merged, where others reach their targets through a bypass; all by default. */
  only?: ReadonlySet<number>
}

/** A tensor of one of the set's experts. */
export interface WeightedTensor extends TensorRef {
  /** Position of its expert in the set. */
  entry: number
  /** What its values are multiplied with: the expert's weight, and LoRA's scaling. */
  weight: number
}

export interface WeightedFactor extends WeightedTensor {
  rankFirst: boolean
}

export interface LowRankPair {
  /** rows × rank of the target's matrix. */
  left: WeightedFactor
  /** rank × cols. */
  right: WeightedFactor
  rank: number
}

/** All that a set does to one base tensor. */
export interface TargetPlan {
  target: string
  /** (IA)³ vectors over rows and over columns. */
  rowScales: WeightedTensor[]
  colScales: WeightedTensor[]
  pairs: LowRankPair[]
  /** Steps of the base's own weights, where the set changes the target in another way too; alone they are in `deltas`. */
  steps: WeightedTensor[]
  /** Tensors of ternary rank-1 terms, in the order of the set. */
  terms: WeightedTensor[]
  /** Dense deltas of matrices, in the order of the set. */
  dense: WeightedTensor[]
  /** The other deltas, in the order of the set: ternary ones, and those of norms and biases; or steps, and nothing else. */
  deltas: WeightedTensor[]
  /** All but `deltas` change every weight of their target, so that the base is kept and not what is displaced. */
  isWhole: boolean
}

/**
 * What each base tensor gets from a set.
 * @throws {TritswapError} `mapping` for targets that are not in VRAM, `base` for shapes that do not fit them,
 * `unsupported` for more than {@link MAX_EXPERTS} deltas of one target, for steps of two experts, and as {@link contributionsOf}, `format` for
 * half a LoRA pair
 */
export function planOf(set: readonly PlanEntry[], weights: WeightStore): Map<string, TargetPlan> {
  const plans = new Map<string, TargetPlan>()
  for (const [entry, { table, weight, only }] of set.entries()) {
    if (weight === 0) continue
    for (const contribution of contributionsOf(table.tensors, (tensor) => weights.has(tensor))) {
      if (only !== undefined && !tensorsOf(contribution).every(({ index }) => only.has(index))) continue
      // No weight changes unless every target of the set can be changed.
      if (only === undefined) weights.placementsOf(contribution.target)
      add(plans, contribution, entry, weight, weights)
    }
  }
  for (const plan of plans.values()) {
    const { target, deltas, dense, terms, steps } = plan
    if (steps.length > 0) settleSteps(plan)
    const most = Math.max(deltas.length, dense.length, terms.length)
    if (most > MAX_EXPERTS) {
      throw new TritswapError(
        'unsupported',
        `Cannot blend ${most} deltas of ${target}: the limit is ${MAX_EXPERTS}`,
        {
          fields: { target, deltas: most, limit: MAX_EXPERTS },
        },
      )
    }
  }
  return plans
}

/**
 * Steps count from the base's own weights, so they come before all else, and one expert's at most. Alone they are deltas, whose
 * journal is as small as they are; below other changes the base is kept.
 * @throws {TritswapError} as {@link checkSteps}
 */
function settleSteps(plan: TargetPlan): void {
  const { target, steps } = plan
  checkSteps(target, steps.length)
  if (!plan.isWhole && plan.deltas.length === 0) plan.deltas.push(...steps.splice(0))
  else plan.isWhole = true
}

function add(
  plans: Map<string, TargetPlan>,
  contribution: Contribution,
  entry: number,
  weight: number,
  weights: WeightStore,
): void {
  const { target, kind } = contribution
  checkFit(contribution, weights.shapeOf(target))
  checkRank(contribution)
  let plan = plans.get(target)
  if (plan === undefined) {
    plan = {
      target,
      rowScales: [],
      colScales: [],
      pairs: [],
      steps: [],
      terms: [],
      dense: [],
      deltas: [],
      isWhole: false,
    }
    plans.set(target, plan)
  }
  plan.isWhole ||= isWholeTensor(contribution) || (kind === 'delta' && isDenseMatrix(contribution.tensor))
  if (kind === 'lowRank') {
    const { left, right, rank, scaling } = contribution
    // The kernel multiplies the two, so one of them carries the weight.
    plan.pairs.push({
      left: { ...left, entry, weight: weight * scaling },
      right: { ...right, entry, weight: 1 },
      rank,
    })
    return
  }
  const { index, tensor } = contribution
  const part: WeightedTensor = { index, tensor, entry, weight }
  if (kind === 'delta') plan[isDenseMatrix(tensor) ? 'dense' : 'deltas'].push(part)
  else if (kind === 'terms') plan.terms.push(part)
  else if (kind === 'steps') plan.steps.push(part)
  else {
    plan[contribution.over === 'rows' ? 'rowScales' : 'colScales'].push(part)
    if (contribution.bias !== undefined) add(plans, contribution.bias, entry, weight, weights)
  }
}

/** A copy of such a tensor and a journal of what its delta displaces are the same size, and a copy serves every expert. */
function isDenseMatrix(tensor: TritTensor): boolean {
  const { rows, cols } = tilingOf(tensor.shape)
  return streamForm(tensor).kind === 'dense' && rows > 1 && cols > 1
}
