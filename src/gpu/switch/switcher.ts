import { TritswapError } from '../../errors.ts'
import type { TritTable } from '../../format/index.ts'
import { Batch } from '../batch.ts'
import type { Gpu } from '../device.ts'
import type { ExpertStore } from '../experts/expert_store.ts'
import type { ResidentExpert } from '../experts/resident_expert.ts'
import { createBuffers } from '../memory.ts'
import { GpuTimer } from '../timer.ts'
import type { WeightStore } from '../weights/weight_store.ts'
import { type ActiveSet, layOut, type SetEntry, type TensorChange } from './active_set.ts'
import { BaseCopies, type NewCopies } from './base_copies.ts'
import { type ChangeOfSet, DeltaMerge } from './delta_merge.ts'
import { Journal } from './journal.ts'

import { MAX_EXPERTS, planOf } from './plan.ts'
import { scratchBytes, WholeMerge } from './whole_merge.ts'
import { WholeSubmission } from './whole_submission.ts'

export interface SwitchTimings {
  /** From the call to the end of the GPU's work, ms. */
  totalMs: number
  /** JavaScript's part of it, recording commands, ms. */
  encodeMs: number
  /** The GPU's part, ms, where the device has timestamps (browsers quantise them to 0.1 ms). */
  gpuMs?: number
}

/**
 * Makes sets of experts current on one weight store, in place. The weights that sparse changes displace are kept in the journal
 * of their set; tensors that are changed as a whole are made anew from what the base came as, or from a copy. Either way the
 * base comes back bit for bit.
 */
export class Switcher {
  readonly #gpu: Gpu
  readonly #weights: WeightStore
  readonly #experts: ExpertStore
  readonly #copies: BaseCopies
  readonly #deltas: DeltaMerge
  readonly #whole: WholeMerge
  readonly #submission: WholeSubmission
  #active: ActiveSet | undefined
  #switching = false

  static async create(options: { gpu: Gpu; weights: WeightStore; experts: ExpertStore }): Promise<Switcher> {
    const { gpu, weights, experts } = options
    const copies = await BaseCopies.create(gpu, weights)
    const [deltas, whole, submission] = await Promise.all([
      DeltaMerge.create(gpu, weights.dtypes),
      WholeMerge.create(gpu, weights.dtypes, copies),
      WholeSubmission.create(gpu),
    ])
    return new Switcher(gpu, weights, experts, copies, deltas, whole, submission)
  }

  private constructor(
    gpu: Gpu,
    weights: WeightStore,
    experts: ExpertStore,
    copies: BaseCopies,
    deltas: DeltaMerge,
    whole: WholeMerge,
    submission: WholeSubmission,
  ) {
    this.#gpu = gpu
    this.#weights = weights
    this.#experts = experts
    this.#copies = copies
    this.#deltas = deltas
    this.#whole = whole
    this.#submission = submission
  }

  /** What is active; empty for the base. */
  get current(): readonly SetEntry[] {
    return this.#active?.entries ?? []
  }

  /** VRAM of the journal. */
  get journalBytes(): number {
    return this.#active?.journal.bytes ?? 0
  }

  /** VRAM of copies of tensors that are changed as a whole. */
  get copyBytes(): number {
    return this.#copies.bytes
  }

  /** @throws {TritswapError} as {@link planOf}, if an expert with this table cannot be applied here */
  check(table: TritTable, only?: ReadonlySet<number>): void {
    planOf([{ table, weight: 1, only }], this.#weights)
  }

  /**
   * Makes a set of at most {@link MAX_EXPERTS} (expert, weight) pairs current, whatever is current now. The experts are
   * retained until the next switch. Weight 0 leaves an expert out. Calls must not overlap: wait for one before the
   * next.
   *
   * The device has accepted all of a switch before any of it runs, so the current set is untouched if it fails.
   *
   * @throws {TritswapError} as {@link planOf}, `released` for an expert that was evicted, `memory` when VRAM runs out,
   * `webgpu` when the device refuses a call, `device-lost`
   * @throws {Error} for a call during another one
   */
  async apply(set: readonly SetEntry[]): Promise<SwitchTimings> {
    if (this.#switching) throw new Error('a switch is under way already')
    this.#switching = true
    try {
      return await this.#switch([...set])
    } finally {
      this.#switching = false
    }
  }

  /** Back to the base, bit for bit. */
  revert(): Promise<SwitchTimings> {
    return this.apply([])
  }

  /** Frees everything without restoring the weights: the weight store is destroyed with it. */
  destroy(): void {
    this.#copies.destroy()
    this.#active?.journal.destroy()
    for (const { expert } of this.current) if (expert.references > 0) expert.release()
    this.#active = undefined
    this.#deltas.destroy()
    this.#submission.destroy()
  }

  async #switch(entries: readonly SetEntry[]): Promise<SwitchTimings> {
    const started = performance.now()
    if (entries.length > MAX_EXPERTS) {
      throw new TritswapError(
        'unsupported',
        `Cannot activate ${entries.length} experts: the limit is ${MAX_EXPERTS}`,
        { fields: { experts: entries.length, limit: MAX_EXPERTS } },
      )
    }
    const retained: ResidentExpert[] = []
    let scratch: GPUBuffer | undefined
    let journal: Journal | undefined
    let copies: NewCopies | undefined
    let timer: GpuTimer | undefined
    let encodeMs = 0
    const before = this.#active
    try {
      for (const { expert } of entries) retained.push(expert.retain())
      const plans = planOf(
        entries.map(({ expert, weight, only }) => ({ table: expert.table, weight, only })),
        this.#weights,
      )
      const { changes, spans } = layOut(plans, this.#weights)
      journal = await Journal.create(this.#gpu, spans)
      const whole = Array.from(changes.values()).filter(({ plan }) => plan.isWhole)
      copies = await this.#copies.reserve(whole.map(({ placement }) => placement))
      const needed = Array.from(changes.values(), ({ plan, shape }) => scratchBytes(plan, shape))
      const bytes = Math.max(0, ...needed)
      if (bytes > 0) [scratch] = await createBuffers(this.#gpu, 'low-rank factors', [bytes])
      timer = await GpuTimer.create(this.#gpu)
      const next: ActiveSet = { entries, journal, changes }
      const encodeFrom = performance.now()
      await this.#submission.run(
        (options) => {
          const batch = new Batch(this.#gpu, { ...options, timer })
          timer?.reset()
          this.#record(batch, before, next, copies, scratch)
          return batch
        },
        () => this.#experts.arena.moves,
      )
      encodeMs = performance.now() - encodeFrom
      copies.keep()
      this.#copies.retain(new Set(whole.map(({ placement }) => placement.tensor)))
      this.#active = entries.length === 0 ? undefined : next
    } catch (error) {
      timer?.destroy()
      copies?.destroy()
      journal?.destroy()
      for (const expert of retained) expert.release()
      throw error
    } finally {
      scratch?.destroy()
    }
    // The new set is on the queue: from here on nothing fails, and what is only reported may be missing.
    if (this.#active === undefined) journal.destroy()
    before?.journal.destroy()
    for (const { expert } of before?.entries ?? []) expert.release()
    for (const expert of retained) this.#experts.touch(expert)
    const gpuMs = await timer?.read()
    if (gpuMs === undefined) await this.#gpu.device.queue.onSubmittedWorkDone().catch(() => {})
    return { totalMs: performance.now() - started, encodeMs, gpuMs }
  }

  /**
   * Records the way from one set to the next. Deltas lie on top of changes of the whole tensor: those are applied first, and
   * where the weights are made anew, what was on them goes by itself.
   */
  #record(
    batch: Batch,
    before: ActiveSet | undefined,
    next: ActiveSet,
    copies: NewCopies | undefined,
    scratch: GPUBuffer | undefined,
  ): void {
    const arena = () => this.#experts.arena.buffer
    const keys = new Set([...(before?.changes.keys() ?? []), ...next.changes.keys()])
    const steps = Array.from(keys, (key) => ({
      from: changeOf(before, before?.changes.get(key)),
      to: changeOf(next, next.changes.get(key)),
    }))
    const whole = steps.filter(({ from, to }) => isWhole(from) || isWhole(to))
    for (const { from } of whole) if (!isWhole(from)) this.#deltas.record(batch, arena, from, undefined)
    copies?.record(batch)
    for (const { from, to } of whole) {
      if (isWhole(to)) this.#whole.record(batch, arena, to, !isWhole(from), scratch)
      else if (from !== undefined) this.#copies.recordBase(batch, from.change.placement)
      this.#deltas.record(batch, arena, undefined, to)
    }
    for (const { from, to } of steps)
      if (!isWhole(from) && !isWhole(to)) this.#deltas.record(batch, arena, from, to)
  }
}

function isWhole(side: ChangeOfSet | undefined): side is ChangeOfSet {
  return side?.change.plan.isWhole === true
}

function changeOf(set: ActiveSet | undefined, change: TensorChange | undefined): ChangeOfSet | undefined {
  return set && change && { set, change }
}
