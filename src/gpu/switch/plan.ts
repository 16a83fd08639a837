import { TritswapError } from '../../errors.ts'
import { type TritTable, type TritTensor, tilingOf } from '../../format/index.ts'
import { MAX_STREAMS } from '../job.ts'
import type { WeightStore } from '../weights/weight_store.ts'

/** Experts that may be active together: what the kernels' parameters have room for. */
export const MAX_EXPERTS = MAX_STREAMS

/** What a plan needs to know of an expert in a set. */
export interface PlanEntry {
  table: TritTable
  weight: number
  /** Tensors of the table that are merged, where others reach their targets beside the weights; all by default. */
  only?: ReadonlySet<number>
}

/** One tensor of an expert on its way to a target. */
export interface Contribution {
  /** In the set. */
  entry: number
  /** In the expert's table. */
  index: number
  tensor: TritTensor
  /** What its values are multiplied with: the entry's weight, and LoRA's scaling. */
  weight: number
}

export interface LowRankPair {
  /** rows × rank of the target's matrix. */
  left: Contribution
  /** rank × cols. */
  right: Contribution
  /** The target is kept as [in, out]: B·A is added transposed, so `left` is Aᵀ and `right` is Bᵀ. */
  transposed: boolean
}

/** All that a set does to one base tensor. */
export interface TargetPlan {
  target: string
  /** Deltas, merged entry by entry. */
  deltas: Contribution[]
  /** LoRA pairs. */
  pairs: LowRankPair[]
  /** (IA)³ vectors over rows and over columns. */
  rowScales: Contribution[]
  colScales: Contribution[]
}

/** True where a plan changes every weight of its target, so that the whole tensor is saved. */
export function isWhole({ pairs, rowScales, colScales }: TargetPlan): boolean {
  return pairs.length + rowScales.length + colScales.length > 0
}

/**
 * What each base tensor gets from a set, in the order of the set.
 * @throws {TritswapError} `mapping` for targets that are not in VRAM, `base` for shapes that do not fit them,
 * `unsupported` for more than {@link MAX_EXPERTS} deltas of one target, `format` for half a LoRA pair
 */
export function planOf(set: readonly PlanEntry[], weights: WeightStore): Map<string, TargetPlan> {
  const plans = new Map<string, TargetPlan>()
  for (const [entry, { table, weight, only }] of set.entries()) {
    if (weight !== 0) addTable(plans, entry, table, weight, weights, only)
  }
  for (const { target, deltas } of plans.values()) {
    if (deltas.length > MAX_EXPERTS) {
      throw new TritswapError(
        'unsupported',
        `Cannot blend ${deltas.length} deltas of ${target}: the limit is ${MAX_EXPERTS}`,
        {
          fields: { target, deltas: deltas.length, limit: MAX_EXPERTS },
        },
      )
    }
  }
  return plans
}

function addTable(
  plans: Map<string, TargetPlan>,
  entry: number,
  table: TritTable,
  weight: number,
  weights: WeightStore,
  only: ReadonlySet<number> | undefined,
): void {
  const planFor = (target: string): TargetPlan => {
    let plan = plans.get(target)
    if (plan === undefined) {
      plan = { target, deltas: [], pairs: [], rowScales: [], colScales: [] }
      plans.set(target, plan)
    }
    return plan
  }
  const factors = new Map<string, { a?: Contribution; b?: Contribution }>()
  for (const [index, tensor] of table.tensors.entries()) {
    if (only !== undefined && !only.has(index)) continue
    const { target, role } = tensor
    const part: Contribution = { entry, index, tensor, weight }
    // Nothing of a set is put anywhere unless all of it can be.
    if (only === undefined) weights.placementsOf(target)
    const matrix = tilingOf(weights.shapeOf(target))
    if (role === 'delta') {
      checkShape(tensor, weights.shapeOf(target))
      planFor(target).deltas.push(part)
    } else if (role === 'ia3') {
      addScale(planFor, part, weights)
    } else {
      const pair = factors.get(target) ?? {}
      const key = role === 'loraA' ? 'a' : 'b'
      if (pair[key] !== undefined) throw unfit(tensor, `one ${role} for ${target}`, 'two')
      // The product takes the weight once.
      pair[key] = { ...part, weight: key === 'b' ? weight * (tensor.scaling ?? 1) : 1 }
      factors.set(target, pair)
      if (pair.a !== undefined && pair.b !== undefined) {
        const { a, b } = pair
        const transposed = isTransposed(tensor)
        const [left, right] = transposed ? [a, b] : [b, a]
        const rank = tilingOf(a.tensor.shape).rows
        const outs = tilingOf(b.tensor.shape)
        const ins = tilingOf(a.tensor.shape).cols
        const expected = transposed ? [ins, outs.rows] : [outs.rows, ins]
        if (outs.cols !== rank || matrix.rows !== expected[0] || matrix.cols !== expected[1]) {
          throw unfit(
            tensor,
            `factors of a ${matrix.rows} × ${matrix.cols} weight`,
            `${expected.join(' × ')} of rank ${rank}`,
          )
        }
        planFor(target).pairs.push({ left, right, transposed })
      }
    }
  }
  for (const { a, b } of factors.values()) {
    const half = a === undefined ? b : b === undefined ? a : undefined
    if (half === undefined) continue
    throw new TritswapError(
      'format',
      `Cannot use ${half.tensor.name}: the other factor for ${half.tensor.target} is missing`,
      {
        fields: { tensor: half.tensor.name, target: half.tensor.target },
      },
    )
  }
}

/** Modules whose weight is [in, out]: transformers' Conv1D, and embeddings. */
function isTransposed({ layout }: TritTensor): boolean {
  return layout === 'conv1d' || layout === 'embedding'
}

function addScale(planFor: (target: string) => TargetPlan, part: Contribution, weights: WeightStore): void {
  const { tensor } = part
  const { rows, cols } = tilingOf(weights.shapeOf(tensor.target))
  const { rows: vectorRows, cols: vectorCols } = tilingOf(tensor.shape)
  const length = vectorRows * vectorCols
  const overCols = (tensor.feedforward === true) !== isTransposed(tensor)
  const axis = overCols ? cols : rows
  // A convolution's columns are in × height × width: each input channel scales a run of them.
  if (axis % length !== 0 || (axis !== length && !(overCols && tensor.layout === 'conv2d'))) {
    throw unfit(tensor, `a vector of ${axis}`, length)
  }
  planFor(tensor.target)[overCols ? 'colScales' : 'rowScales'].push(part)
  // PEFT's merge scales the bias of a module together with its output.
  const bias = tensor.target.replace(/\.weight$/, '.bias')
  if (tensor.feedforward !== true && bias !== tensor.target && weights.has(bias)) {
    const size = tilingOf(weights.shapeOf(bias))
    if (size.rows * size.cols === length)
      planFor(bias)[size.rows === 1 ? 'colScales' : 'rowScales'].push(part)
  }
}

function checkShape(tensor: TritTensor, shape: readonly number[]): void {
  if (tensor.shape.length === shape.length && tensor.shape.every((size, i) => size === shape[i])) return
  throw unfit(tensor, `the shape ${shape.join(' × ')} of ${tensor.target}`, tensor.shape.join(' × '))
}

function unfit(tensor: TritTensor, expected: string, found: string | number): TritswapError {
  return new TritswapError(
    'base',
    `Cannot apply ${tensor.name}: expected ${expected}, found ${found}; the expert is for another base`,
    {
      fields: { tensor: tensor.name, target: tensor.target, expected, found },
    },
  )
}
