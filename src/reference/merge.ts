/**
 * Merges of experts into tensors in ordinary memory, as the formula in `format/contributions.ts` reads.
 *
 * @module
 */

import { TritswapError } from '../errors.ts'
import {
  type Contribution,
  checkFit,
  checkSteps,
  contributionsOf,
  type Delta,
  type LowRank,
  type Scale,
  type StepsDelta,
  scaleGroup,
  type TermsDelta,
  tensorsOf,
} from '../format/contributions.ts'
import { tilingOf } from '../format/index.ts'
import { forEachStep, type Steps, steppedValue } from '../format/steps.ts'
import type { ReferenceExpert } from './expert.ts'
import type { WeightTable } from './weight_table.ts'

/** Values of tensors in checkpoint order, by checkpoint name. */
export type TensorValues = ReadonlyMap<string, Float32Array<ArrayBuffer>>

/** An expert of a set. */
export interface MergeEntry {
  expert: ReferenceExpert
  weight: number
  /** Tensors of its table that are merged; all by default. */
  only?: ReadonlySet<number>
}

/** What the merge has to know of a base. */
export interface MergeBase {
  tensors: TensorValues
  /** @throws {TritswapError} `mapping` for a tensor that the base does not have */
  shapeOf(tensor: string): readonly number[]
}

/** A contribution with the values and the weight of its expert. */
type Part<C extends Contribution> = {
  contribution: C
  values: readonly Float32Array[]
  steps: ReadonlyMap<number, Steps> | undefined
  weight: number
}

/** What a set does to one target. */
export interface TargetParts {
  /** Of one expert at most: they count from the base's own weights. */
  steps: Part<StepsDelta>[]
  scale: Part<Scale>[]
  lowRank: Part<LowRank>[]
  terms: Part<TermsDelta>[]
  delta: Part<Delta>[]
}

/**
 * What a set of experts does to each tensor of a base.
 * @throws {TritswapError} `mapping` for tensors that the base does not have, `base` for those of another shape, and as
 * {@link contributionsOf}
 */
export function mergeParts(
  base: Pick<WeightTable, 'knows' | 'shapeOf'>,
  set: readonly MergeEntry[],
): Map<string, TargetParts> {
  const targets = new Map<string, TargetParts>()
  const add = (contribution: Contribution, of: Omit<Part<Contribution>, 'contribution'>) => {
    checkFit(contribution, base.shapeOf(contribution.target))
    const parts = targets.get(contribution.target) ?? {
      steps: [],
      scale: [],
      lowRank: [],
      terms: [],
      delta: [],
    }
    targets.set(contribution.target, parts)
    const list: Part<Contribution>[] = parts[contribution.kind]
    list.push({ contribution, ...of })
    if (contribution.kind === 'steps') checkSteps(contribution.target, parts.steps.length)
    if (contribution.kind === 'scale' && contribution.bias) add(contribution.bias, of)
  }
  for (const { expert, weight, only } of set) {
    for (const contribution of contributionsOf(expert.table.tensors, (name) => base.knows(name))) {
      if (only === undefined) checkWhole(contribution)
      if (only === undefined || tensorsOf(contribution).every(({ index }) => only.has(index)))
        add(contribution, { values: expert.values, steps: expert.steps, weight })
    }
  }
  return targets
}

/** A tensor with what a set does to it, in f32, rounded after the steps, after the scales and after each pair and delta. */
export function mergedTensor(
  own: Float32Array<ArrayBuffer>,
  shape: readonly number[],
  { steps, scale, lowRank, terms, delta }: TargetParts,
): Float32Array<ArrayBuffer> {
  const out = own.slice()
  for (const part of steps) applySteps(out, shape, part)
  if (scale.length > 0) applyScales(out, shape, scale)
  for (const part of lowRank) addProduct(out, shape, part)
  for (const { contribution, values, weight } of [...terms, ...delta]) {
    const change = values[contribution.index]
    for (let i = 0; i < out.length; i++) out[i] += weight * change[i]
  }
  return out
}

/**
 * The tensors that a set of experts changes.
 * @throws {TritswapError} as {@link mergeParts}
 */
export function mergedTensors(
  base: MergeBase,
  set: readonly MergeEntry[],
): Map<string, Float32Array<ArrayBuffer>> {
  const shapeOf = (name: string) => base.shapeOf(name)
  const parts = mergeParts({ knows: (name) => base.tensors.has(name), shapeOf }, set)
  return new Map(
    Array.from(parts, ([target, of]) => [
      target,
      mergedTensor(base.tensors.get(target)!, shapeOf(target), of),
    ]),
  )
}

/** Every weight that moves becomes another value of its unit, or goes a share of the way there. */
function applySteps(
  out: Float32Array,
  shape: readonly number[],
  { contribution: { index, unit, tensor }, steps, weight }: Part<StepsDelta>,
): void {
  const own = steps?.get(index)
  if (own === undefined) throw new Error(`the steps of ${tensor.name} were not read`)
  forEachStep(shape, own, (at, step) => {
    const to = steppedValue(out[at], step, unit)
    out[at] = weight === 1 ? to : out[at] + weight * (to - out[at])
  })
}

/** @throws {TritswapError} `unsupported` for a change of one of the modules that share a weight, which no merge can make */
function checkWhole(contribution: Contribution): void {
  if (contribution.kind !== 'delta' || contribution.ofEmbedding === undefined) return
  const { tensor, target } = contribution
  throw new TritswapError(
    'unsupported',
    `Cannot merge ${tensor.name}: expected a change of all of ${target}, found one of a single module that shares it; bind the expert to the graph first`,
    { fields: { tensor: tensor.name, target } },
  )
}

function applyScales(out: Float32Array, shape: readonly number[], parts: readonly Part<Scale>[]): void {
  const { rows, cols } = tilingOf(shape)
  const factors = { rows: new Float64Array(rows).fill(1), cols: new Float64Array(cols).fill(1) }
  for (const { contribution, values, weight } of parts) {
    const { index, over } = contribution
    const group = scaleGroup(over, shape)
    for (let i = 0; i < factors[over].length; i++)
      factors[over][i] += weight * values[index][Math.floor(i / group)]
  }
  for (let row = 0, i = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++, i++) out[i] *= factors.rows[row] * factors.cols[col]
  }
}

function addProduct(
  out: Float32Array,
  shape: readonly number[],
  { contribution: { left, right, rank, scaling }, values, weight }: Part<LowRank>,
): void {
  const { rows, cols } = tilingOf(shape)
  const [leftValues, rightValues] = [values[left.index], values[right.index]]
  const [leftRow, leftRank] = left.rankFirst ? [1, rows] : [rank, 1]
  const [rightRank, rightCol] = right.rankFirst ? [cols, 1] : [1, rank]
  for (let row = 0, i = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++, i++) {
      let sum = 0
      for (let r = 0; r < rank; r++) {
        sum += leftValues[row * leftRow + r * leftRank] * rightValues[r * rightRank + col * rightCol]
      }
      out[i] += weight * scaling * sum
    }
  }
}
