import { tilingOf, weightsOf } from '../../format/index.ts'
import { type Batch, WORK_LIMIT } from '../batch.ts'
import type { Gpu } from '../device.ts'
import { dispatchJob } from '../job.ts'
import { type Kernel, kernelOf, targetKernels } from '../kernel.ts'
import { createBuffers } from '../memory.ts'
import { shaderConstants } from '../shader_constants.ts'
import { NOT_JOURNALED, STEPS_INVOCATIONS } from '../steps_form.ts'
import { streamForm } from '../stream_form.ts'
import type { TargetDtype } from '../target.ts'
import { streamOf } from './active_set.ts'
import { type BaseCopies, orderedPlacement } from './base_copies.ts'
import type { ChangeOfSet } from './delta_jobs.ts'
import type { TargetPlan, WeightedTensor } from './plan.ts'
import { isStreamed, TermsMerge } from './terms_merge.ts'

const { TILE } = shaderConstants('low_rank', ['TILE'])

/** What multiplies out LoRA pairs and (IA)³ vectors: their factors are unpacked first. */
interface ProductKernels {
  unpack: Kernel
  low_rank: Record<TargetDtype, Kernel>
}

/** What applies steps to all weights: they have no journal, so the kernel gets buffers that it does not use. */
interface StepKernels {
  steps: Record<TargetDtype, Kernel>
  unused: readonly GPUBuffer[]
}

/**
 * Changes of all weights of a tensor, on top of the base: steps of a lossless expert, (IA)³ vectors and LoRA pairs, rounded once, then ternary terms of all
 * experts, rounded once, then dense deltas, rounded once.
 */
export class WholeMerge {
  readonly #gpu: Gpu
  readonly #dtypes: ReadonlySet<TargetDtype>
  readonly #copies: BaseCopies
  #product: ProductKernels | undefined
  #steps: StepKernels | undefined
  #terms: TermsMerge | undefined
  #add: Record<TargetDtype, Kernel> | undefined

  constructor(gpu: Gpu, dtypes: ReadonlySet<TargetDtype>, copies: BaseCopies) {
    this.#gpu = gpu
    this.#dtypes = dtypes
    this.#copies = copies
  }

  /**
   * Compiles what these plans need, once: most bases never meet all kinds of experts.
   * @returns undefined where nothing is missing
   * @throws {TritswapError} `webgpu`, `device-lost`
   */
  prepare(plans: Iterable<TargetPlan>): Promise<unknown> | undefined {
    const all = [...plans]
    const missing: Promise<void>[] = []
    if (!this.#product && all.some(hasFactors)) missing.push(this.#compileProduct())
    if (!this.#steps && all.some(({ steps }) => steps.length > 0)) missing.push(this.#compileSteps())
    if (!this.#terms && all.some(({ terms }) => terms.length > 0)) missing.push(this.#compileTerms())
    if (!this.#add && all.some(({ dense }) => dense.length > 0)) missing.push(this.#compileAdd())
    return missing.length === 0 ? undefined : Promise.all(missing)
  }

  async #compileProduct(): Promise<void> {
    const [unpack, { low_rank }] = await Promise.all([
      kernelOf(this.#gpu, 'unpack', 'float32'),
      targetKernels(this.#gpu, ['low_rank'], this.#dtypes),
    ])
    this.#product ??= { unpack, low_rank }
  }

  async #compileSteps(): Promise<void> {
    const { steps } = await targetKernels(this.#gpu, ['steps'], this.#dtypes)
    const unused = await createBuffers(this.#gpu, 'placeholders', [16, 16])
    // Two experts of this kind may come at once.
    if (this.#steps === undefined) this.#steps = { steps, unused }
    else for (const buffer of unused) buffer.destroy()
  }

  async #compileTerms(): Promise<void> {
    this.#terms ??= await TermsMerge.create(this.#gpu, this.#dtypes)
  }

  async #compileAdd(): Promise<void> {
    const { add } = await targetKernels(this.#gpu, ['add'], this.#dtypes)
    this.#add ??= add
  }

  /**
   * Records the changes of a plan that {@link prepare} was called for.
   * @param isBase - the weights are the base's; else they are made anew first, or on the way
   * @param scratch - of {@link scratchBytes}; not needed where that is 0 for every change
   */
  record(
    batch: Batch,
    arena: () => GPUBuffer,
    to: ChangeOfSet,
    isBase: boolean,
    scratch: GPUBuffer | undefined,
  ): void {
    const { plan, placement } = to.change
    const form = this.#copies.ownFormOf(placement)
    const isOnWay =
      plan.terms.length > 0 &&
      !hasFactors(plan) &&
      plan.steps.length === 0 &&
      form !== undefined &&
      isStreamed(to.change, form)
    if (!isBase && !isOnWay) this.#copies.recordBase(batch, placement)
    if (plan.steps.length > 0) this.#recordSteps(batch, arena(), to)
    if (hasFactors(plan) && scratch !== undefined) {
      this.#recordFactors(batch, arena(), to, scratch)
      this.#recordProduct(batch, to, scratch)
    }
    if (plan.terms.length > 0) this.#terms!.record(batch, arena(), to, isOnWay ? form : undefined)
    if (plan.dense.length > 0) this.#recordDense(batch, arena(), to)
  }

  destroy(): void {
    for (const buffer of this.#steps?.unused ?? []) buffer.destroy()
  }

  /** They have no journal: the weights are made anew when they go. */
  #recordSteps(
    batch: Batch,
    arena: GPUBuffer,
    { set, change: { plan, placement, shape } }: ChangeOfSet,
  ): void {
    const streams = {
      reverted: [],
      applied: plan.steps.map((part) => streamOf(set.entries, part, NOT_JOURNALED)),
    }
    const { steps, unused } = this.#steps!
    const [displaced, journal] = unused.map((buffer) => ({ buffer }))
    const bindings = { weights: { buffer: placement.buffer }, arena: { buffer: arena }, displaced, journal }
    const job = { shape, placement, ...streams }
    dispatchJob(batch, steps[placement.dtype], bindings, job, {
      invocations: STEPS_INVOCATIONS,
    })
  }

  #recordDense(
    batch: Batch,
    arena: GPUBuffer,
    { set, change: { plan, placement, shape } }: ChangeOfSet,
  ): void {
    const weights = weightsOf(shape)
    const { cols } = tilingOf(shape)
    const swapped = placement.rowStride < placement.colStride
    const delta = plan.dense.map(({ entry, index, tensor, weight }) => {
      const form = streamForm(tensor)
      const half = form.kind === 'dense' && form.dtype === 'f16' ? 1 : 0
      return { words: set.entries[entry].expert.spanOf(index).words, half, weight }
    })
    batch.dispatch(
      this.#add![placement.dtype],
      { weights: { buffer: placement.buffer }, arena: { buffer: arena } },
      {
        placement: orderedPlacement(shape, placement, swapped),
        weights,
        row_values: swapped ? 1 : cols,
        col_values: swapped ? cols : 1,
        deltas: delta.length,
        delta,
      },
      weights,
      weights * delta.length,
    )
  }

  /** Unpacks the factors and vectors of one target to floats. */
  #recordFactors(batch: Batch, arena: GPUBuffer, { set, change }: ChangeOfSet, scratch: GPUBuffer): void {
    const { plan, shape } = change
    const { cols, rank, right, rowScale, colScale } = scratchLayout(plan, shape)
    const bindings = { weights: { buffer: scratch }, arena: { buffer: arena } }
    const unpack = (part: WeightedTensor, offset: number, rowStride: number, colStride: number) =>
      dispatchJob(batch, this.#product!.unpack, bindings, {
        shape: part.tensor.shape,
        placement: { offset, rowStride, colStride },
        reverted: [],
        applied: [streamOf(set.entries, part)],
      })
    batch.clear(scratch)
    let at = 0
    for (const pair of plan.pairs) {
      // The kernel reads left as rows × rank and right as rank × cols.
      unpack(pair.left, at, pair.left.rankFirst ? 1 : rank, pair.left.rankFirst ? rank : 1)
      unpack(pair.right, right + at * cols, pair.right.rankFirst ? cols : 1, pair.right.rankFirst ? 1 : cols)
      at += pair.rank
    }
    for (const part of plan.rowScales) unpack(part, rowScale, tilingOf(part.tensor.shape).cols, 1)
    for (const part of plan.colScales) unpack(part, colScale, tilingOf(part.tensor.shape).cols, 1)
  }

  #recordProduct(batch: Batch, { change }: ChangeOfSet, scratch: GPUBuffer): void {
    const { plan, shape, placement } = change
    const { rows, cols, rank, right, rowScale, colScale } = scratchLayout(plan, shape)
    const group = (parts: readonly WeightedTensor[], axis: number) =>
      parts.length === 0 ? 0 : axis / weightsOf(parts[0].tensor.shape)
    const tiles = Math.ceil(rows / TILE) * Math.ceil(cols / TILE)
    const workOfTile = TILE * TILE * Math.max(1, rank)
    const step = Math.max(1, Math.floor(WORK_LIMIT / workOfTile))
    for (let first = 0; first < tiles; first += step) {
      const end = Math.min(tiles, first + step)
      batch.dispatchGroups(
        this.#product!.low_rank[placement.dtype],
        { weights: { buffer: placement.buffer }, factors: { buffer: scratch } },
        {
          rows,
          cols,
          offset: placement.offset,
          row_stride: placement.rowStride,
          col_stride: placement.colStride,
          rank,
          first_tile: first,
          end_tile: end,
          left: 0,
          right,
          row_scale: rowScale,
          row_group: group(plan.rowScales, rows),
          col_scale: colScale,
          col_group: group(plan.colScales, cols),
        },
        end - first,
        (end - first) * workOfTile,
      )
    }
  }
}

/** Whether a plan has what is unpacked to floats first. */
function hasFactors({ pairs, rowScales, colScales }: TargetPlan): boolean {
  return pairs.length + rowScales.length + colScales.length > 0
}

/** Bytes of the scratch buffer that a change of one target takes; targets take it one after another. */
export function scratchBytes(plan: TargetPlan, shape: readonly number[]): number {
  return scratchLayout(plan, shape).values * 4
}

/** Where the floats of one target's factors and vectors lie in the scratch buffer; the left factors are first. */
function scratchLayout({ pairs, rowScales, colScales }: TargetPlan, shape: readonly number[]) {
  const { rows, cols } = tilingOf(shape)
  const rank = pairs.reduce((sum, pair) => sum + pair.rank, 0)
  const right = rows * rank
  const rowScale = right + rank * cols
  const colScale = rowScale + (rowScales.length > 0 ? rows : 0)
  const values = colScale + (colScales.length > 0 ? cols : 0)
  return { rows, cols, rank, right, rowScale, colScale, values }
}
