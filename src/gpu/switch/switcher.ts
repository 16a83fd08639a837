import { TritswapError } from '../../errors.ts'
import { BLOCK_WEIGHTS, type TritTable, tilingOf, weightsOf } from '../../format/index.ts'
import { Batch } from '../batch.ts'
import type { Gpu } from '../device.ts'
import type { ExpertStore, ResidentExpert } from '../experts/expert_store.ts'
import { jobParams, streamParams, wordsOfTile } from '../job.ts'
import { type Kernel, kernelOf, type Params, type TargetDtype, targetKernels } from '../kernel.ts'
import { createBuffers } from '../memory.ts'
import { type BufferPlacement, placementParams, type WeightStore } from '../weights/weight_store.ts'
import { Journal } from './journal.ts'
import { MAX_EXPERTS, planOf, type TargetPlan, type WeightedTensor } from './plan.ts'

export interface SetEntry {
  expert: ResidentExpert
  weight: number
  /** Tensors of its table that are merged, where others reach their targets beside the weights; all by default. */
  only?: ReadonlySet<number>
}

export interface SwitchTimings {
  /** From the call to the end of the GPU's work, ms. */
  totalMs: number
  /** JavaScript's part of it: planning and encoding, ms. */
  encodeMs: number
  /** The GPU's part, ms, where the device has timestamps (browsers quantise them to 0.1 ms). */
  gpuMs?: number
  submissions: number
  /** Streams decoded. */
  decodes: number
  /** VRAM of the journal of the set that is current now. */
  journalBytes: number
}

const MERGE_KERNELS = ['apply', 'revert', 'fused', 'blend', 'dense', 'save', 'restore', 'low_rank'] as const
type SwitchKernels = Record<(typeof MERGE_KERNELS)[number], Record<TargetDtype, Kernel>> & { unpack: Kernel }

/** A tensor that is not the base's now, in one of its places. */
interface Changed {
  place: BufferPlacement
  shape: readonly number[]
  deltas: readonly WeightedTensor[]
  /** Regions of the set's journal. */
  entries?: number
  saved?: number
  /** Word of `entries` where each of the deltas starts. */
  starts: readonly number[]
}

interface ActiveSet {
  entries: readonly SetEntry[]
  journal: Journal
  changed: ReadonlyMap<string, Changed>
}

/**
 * Makes sets of experts current on one weight store, in place. What a set displaces is kept in its journal, so the
 * base comes back bit for bit. Calls queue up behind each other.
 */
export class Switcher {
  readonly #gpu: Gpu
  readonly #kernels: SwitchKernels
  readonly #weights: WeightStore
  readonly #experts: ExpertStore
  /** Bound where a kernel has a journal that the switch at hand does not use. */
  readonly #unused: readonly GPUBuffer[]
  #active: ActiveSet | undefined
  #decodes = 0
  #tail: Promise<unknown> = Promise.resolve()

  static async create(options: { gpu: Gpu; weights: WeightStore; experts: ExpertStore }): Promise<Switcher> {
    const { gpu, weights, experts } = options
    const [targets, unpack] = await Promise.all([
      targetKernels(gpu, MERGE_KERNELS),
      kernelOf(gpu, 'unpack', 'float32'),
    ])
    const unused = await createBuffers(gpu, 'placeholders', [16, 16])
    return new Switcher(gpu, { ...targets, unpack }, weights, experts, unused)
  }

  private constructor(
    gpu: Gpu,
    kernels: SwitchKernels,
    weights: WeightStore,
    experts: ExpertStore,
    unused: readonly GPUBuffer[],
  ) {
    this.#gpu = gpu
    this.#kernels = kernels
    this.#weights = weights
    this.#experts = experts
    this.#unused = unused
  }

  /** What is active; empty for the base. */
  get current(): readonly SetEntry[] {
    return this.#active?.entries ?? []
  }

  get journalBytes(): number {
    return this.#active?.journal.bytes ?? 0
  }

  /** Streams decoded so far by the GPU. */
  get decodes(): number {
    return this.#decodes
  }

  /** @throws {TritswapError} as {@link planOf}: whether an expert with this table could be applied here */
  check(table: TritTable, only?: ReadonlySet<number>): void {
    planOf([{ table, weight: 1, only }], this.#weights)
  }

  /**
   * Makes a set of at most 8 (expert, weight) pairs current, from whatever is current. The experts are retained until
   * the next switch. Weight 0 leaves an expert out.
   *
   * @throws {TritswapError} as {@link planOf}, `released` for an expert that is gone, `memory` when there is no room
   * for the journal; the current set is untouched then
   */
  apply(set: readonly SetEntry[]): Promise<SwitchTimings> {
    const done = this.#tail.then(() => this.#switch([...set]))
    this.#tail = done.catch(() => {})
    return done
  }

  /** Back to the base, bit for bit. */
  revert(): Promise<SwitchTimings> {
    return this.apply([])
  }

  /** Gives everything back without restoring the weights: for when the store goes too. */
  destroy(): void {
    this.#active?.journal.destroy()
    for (const { expert } of this.current) if (expert.references > 0) expert.release()
    this.#active = undefined
    for (const buffer of this.#unused) buffer.destroy()
  }

  async #switch(entries: readonly SetEntry[]): Promise<SwitchTimings> {
    const started = performance.now()
    if (entries.length > MAX_EXPERTS) {
      throw new TritswapError(
        'unsupported',
        `Cannot activate ${entries.length} experts: the limit is ${MAX_EXPERTS}`,
        {
          fields: { experts: entries.length, limit: MAX_EXPERTS },
        },
      )
    }
    const held: ResidentExpert[] = []
    let scratch: GPUBuffer | undefined
    let journal: Journal | undefined
    let submitted = false
    try {
      for (const { expert } of entries) held.push(expert.retain())
      const plans = planOf(
        entries.map(({ expert, weight, only }) => ({ table: expert.table, weight, only })),
        this.#weights,
      )
      const { changed, sizes } = this.#layOut(plans)
      journal = await Journal.create(this.#gpu, sizes)
      const scratchBytes = Math.max(
        0,
        ...Array.from(plans.values(), (plan) => this.#scratchOf(plan).values * 4),
      )
      if (scratchBytes > 0) [scratch] = await createBuffers(this.#gpu, 'low-rank factors', [scratchBytes])
      // From here to the last submission nothing waits: a switch is on the queue whole or not at all.
      const encodeFrom = performance.now()
      const batch = new Batch(this.#gpu, { timed: true })
      const before = this.#active
      const next: ActiveSet = { entries, journal, changed }
      const decodes = this.#encode(batch, before, next, plans, scratch)
      batch.submit()
      submitted = true
      this.#active = entries.length === 0 ? undefined : next
      if (this.#active === undefined) journal.destroy()
      before?.journal.destroy()
      for (const { expert } of before?.entries ?? []) expert.release()
      for (const expert of held) this.#experts.touch(expert)
      this.#decodes += decodes
      const encodeMs = performance.now() - encodeFrom
      const gpuMs = await batch.finish()
      return {
        totalMs: performance.now() - started,
        encodeMs,
        gpuMs,
        submissions: batch.submissions,
        decodes,
        journalBytes: this.journalBytes,
      }
    } catch (error) {
      if (!submitted) {
        journal?.destroy()
        for (const expert of held) expert.release()
      }
      throw error
    } finally {
      scratch?.destroy()
    }
  }

  /** Where each target's displaced weights go, and how many bytes each region takes. */
  #layOut(plans: ReadonlyMap<string, TargetPlan>): { changed: Map<string, Changed>; sizes: number[] } {
    const changed = new Map<string, Changed>()
    const sizes: number[] = []
    for (const plan of plans.values()) {
      const shape = this.#weights.shapeOf(plan.target)
      for (const [i, place] of this.#weights.floatPlacementsOf(plan.target).entries()) {
        const wordBytes = place.dtype === 'float16' ? 2 : 4
        const starts: number[] = []
        let words = 0
        for (const { tensor } of plan.deltas) {
          starts.push(words)
          const kept = keptOf(tensor)
          // Halves: one spare for each block, so that every block starts on a word of its own.
          words += place.dtype === 'float16' ? Math.ceil((kept + tilingOf(shape).blocks) / 2) : kept
        }
        const change: Changed = { place, shape, deltas: plan.deltas, starts }
        if (plan.deltas.length > 0) change.entries = sizes.push(words * 4) - 1
        if (plan.isWhole) change.saved = sizes.push(weightsOf(shape) * wordBytes) - 1
        changed.set(`${plan.target} ${i}`, change)
      }
    }
    return { changed, sizes }
  }

  /** Records the way from one set to the next, and returns how many streams it decodes. */
  #encode(
    batch: Batch,
    before: ActiveSet | undefined,
    next: ActiveSet,
    plans: ReadonlyMap<string, TargetPlan>,
    scratch: GPUBuffer | undefined,
  ): number {
    let decodes = 0
    const merge = (from: Changed | undefined, to: Changed | undefined) => {
      if (before === undefined || from?.deltas.length === 0) from = undefined
      if (to?.deltas.length === 0) to = undefined
      if (from !== undefined || to !== undefined) decodes += this.#merge(batch, before, from, next, to)
    }
    for (const key of new Set([...(before?.changed.keys() ?? []), ...next.changed.keys()])) {
      const from = before?.changed.get(key)
      const to = next.changed.get(key)
      if (from?.saved === undefined && to?.saved === undefined) {
        merge(from, to)
        continue
      }
      // Whole-tensor changes lie under the deltas: take the deltas off first and put them on last.
      merge(from, undefined)
      if (before !== undefined && from?.saved !== undefined) {
        this.#copyWhole(batch, this.#kernels.restore, from, before.journal.region(from.saved))
      }
      if (to?.saved !== undefined) {
        this.#copyWhole(batch, this.#kernels.save, to, next.journal.region(to.saved))
        const target = key.slice(0, key.lastIndexOf(' '))
        decodes += this.#applyWhole(batch, next, plans.get(target)!, to, scratch!)
      }
      merge(undefined, to)
    }
    return decodes
  }

  /** Takes one tensor from the deltas of a set to those of another in a single pass. */
  #merge(
    batch: Batch,
    before: ActiveSet | undefined,
    from: Changed | undefined,
    next: ActiveSet,
    to: Changed | undefined,
  ): number {
    const { place, shape } = (to ?? from)!
    const olds = from?.deltas ?? []
    const news = to?.deltas ?? []
    const streams = [
      ...olds.map((part, i) => streamOf(before!.entries, part, from!.starts[i])),
      ...news.map((part, i) => streamOf(next.entries, part, to!.starts[i])),
    ]
    const name = kernelFor(olds, news)
    const kernel = this.#kernels[name][place.dtype]
    const bindings = {
      weights: { buffer: place.buffer },
      arena: { buffer: this.#experts.arena.buffer },
      displaced:
        from?.entries === undefined ? { buffer: this.#unused[0] } : before!.journal.region(from.entries),
      journal: to?.entries === undefined ? { buffer: this.#unused[1] } : next.journal.region(to.entries),
    }
    const { blocks } = tilingOf(shape)
    const invocations = name === 'dense' ? wordsOfTile(shape, place.dtype) : 1
    // One dispatch is never cut, so a large tensor is several.
    const step = 16_384
    for (let first = 0; first < blocks; first += step) {
      const end = Math.min(blocks, first + step)
      const job = jobParams(shape, place, streams, olds.length, first, end)
      const work = (end - first) * BLOCK_WEIGHTS * streams.length
      batch.dispatch(kernel, bindings, job, (end - first) * invocations, work)
    }
    return streams.length
  }

  #copyWhole(
    batch: Batch,
    kernels: Record<TargetDtype, Kernel>,
    { place, shape }: Changed,
    saved: GPUBufferBinding,
  ): void {
    const weights = weightsOf(shape)
    const words = Math.ceil(weights / (place.dtype === 'float16' ? 2 : 1))
    batch.dispatch(
      kernels[place.dtype],
      { weights: { buffer: place.buffer }, saved },
      { place: placementParams(shape, place), weights },
      words,
      weights,
    )
  }

  /** Where the dense factors of one target lie in the scratch buffer, in values. */
  #scratchOf({ target, pairs, rowScales, colScales }: TargetPlan) {
    const { rows, cols } = tilingOf(this.#weights.shapeOf(target))
    const rank = pairs.reduce((sum, pair) => sum + pair.rank, 0)
    const right = rows * rank
    const rowScale = right + rank * cols
    const colScale = rowScale + (rowScales.length > 0 ? rows : 0)
    return {
      rows,
      cols,
      rank,
      right,
      rowScale,
      colScale,
      values: colScale + (colScales.length > 0 ? cols : 0),
    }
  }

  /** Unpacks the factors and vectors of one target and merges them; returns the streams decoded. */
  #applyWhole(
    batch: Batch,
    set: ActiveSet,
    plan: TargetPlan,
    { place }: Changed,
    scratch: GPUBuffer,
  ): number {
    const { rows, cols, rank, right, rowScale, colScale } = this.#scratchOf(plan)
    batch.clear(scratch)
    let decodes = 0
    const unpack = (part: WeightedTensor, offset: number, rowStride: number, colStride: number) => {
      const { shape } = part.tensor
      const { blocks } = tilingOf(shape)
      const job = jobParams(
        shape,
        { offset, rowStride, colStride },
        [streamOf(set.entries, part)],
        0,
        0,
        blocks,
      )
      const bindings = { weights: { buffer: scratch }, arena: { buffer: this.#experts.arena.buffer } }
      batch.dispatch(this.#kernels.unpack, bindings, job, blocks, blocks * BLOCK_WEIGHTS)
      decodes++
    }
    let at = 0
    for (const { left, right: second, rank: own } of plan.pairs) {
      // The kernel reads left as rows × rank and right as rank × cols.
      unpack(left, at, left.rankFirst ? 1 : rank, left.rankFirst ? rank : 1)
      unpack(second, right + at * cols, second.rankFirst ? cols : 1, second.rankFirst ? 1 : cols)
      at += own
    }
    const group = (parts: readonly WeightedTensor[], axis: number) =>
      parts.length === 0 ? 0 : axis / weightsOf(parts[0].tensor.shape)
    for (const part of plan.rowScales) unpack(part, rowScale, tilingOf(part.tensor.shape).cols, 1)
    for (const part of plan.colScales) unpack(part, colScale, tilingOf(part.tensor.shape).cols, 1)
    batch.dispatchGroups(
      this.#kernels.low_rank[place.dtype],
      { weights: { buffer: place.buffer }, factors: { buffer: scratch } },
      {
        rows,
        cols,
        offset: place.offset,
        row_stride: place.rowStride,
        col_stride: place.colStride,
        rank,
        left: 0,
        right,
        row_scale: rowScale,
        row_group: group(plan.rowScales, rows),
        col_scale: colScale,
        col_group: group(plan.colScales, cols),
      },
      Math.ceil(rows / 16) * Math.ceil(cols / 16),
      rows * cols * Math.max(1, rank),
    )
    return decodes
  }
}

/** The narrowest kernel for a switch: the fast ones know exactly one ternary stream on a side, or dense ones alone. */
function kernelFor(
  olds: readonly WeightedTensor[],
  news: readonly WeightedTensor[],
): (typeof MERGE_KERNELS)[number] {
  const parts = [...olds, ...news]
  if (parts.every(({ tensor }) => tensor.codec === 'dense')) return 'dense'
  const ternary = parts.every(({ tensor }) => tensor.codec === 'ternary')
  if (!ternary || olds.length > 1 || news.length > 1) return 'blend'
  return olds.length === 0 ? 'apply' : news.length === 0 ? 'revert' : 'fused'
}

function keptOf(tensor: WeightedTensor['tensor']): number {
  return tensor.codec === 'ternary' ? tensor.kept : weightsOf(tensor.shape)
}

/** A contribution's stream where it lies now, its journal from word `journal` on. */
function streamOf(
  entries: readonly SetEntry[],
  { entry, index, tensor, weight }: WeightedTensor,
  journal?: number,
): Params {
  return streamParams(tensor, entries[entry].expert.spanOf(index), weight, journal)
}
