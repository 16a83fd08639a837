import { isTritswapError } from '../../errors.ts'
import type { TritTable } from '../../format/index.ts'
import { Batch } from '../batch.ts'
import type { Gpu } from '../device.ts'
import type { ExpertStore } from '../experts/expert_store.ts'
import type { ResidentExpert } from '../experts/resident_expert.ts'
import { createBuffers } from '../memory.ts'
import { GpuTimer } from '../timer.ts'
import { sharingOf } from '../tuning.ts'
import type { WeightStore } from '../weights/weight_store.ts'
import {
  type ActiveSet,
  isSameSet,
  layOut,
  type SetEntry,
  type SetLayout,
  type TensorChange,
} from './active_set.ts'
import { BaseCopies, type NewCopies } from './base_copies.ts'
import type { ChangeOfSet, DeltaStep } from './delta_jobs.ts'
import { DeltaMerge } from './delta_merge.ts'
import { Journal } from './journal.ts'
import { MAX_EXPERTS, planOf, type TargetPlan } from './plan.ts'
import { type Recipe, RecipeCache } from './recipe.ts'
import { WeightSlots } from './weight_slots.ts'
import { scratchBytes, WholeMerge } from './whole_merge.ts'
import { WholeSubmission } from './whole_submission.ts'

/** Sets whose layout is kept, and switches whose recipes are: what two sets and the base take, both ways. */
const KEPT_LAYOUTS = 4
const KEPT_RECIPES = 8
/** Journals larger than this share of the weights are not kept for the next set. */
const KEPT_JOURNAL = 1 / 4

export interface SwitchTimings {
  /** From the call until the device has accepted the switch, ms. */
  totalMs: number
  /** JavaScript's part of it, recording and submitting commands, ms. */
  encodeMs: number
  /** Dispatches that it took. */
  dispatches: number
  /** With `timed`: resolves when the GPU has run it. It never rejects, since what is only reported decides nothing. */
  finished?: Promise<GpuTimings>
}

export interface GpuTimings {
  /** From the call of the switch to the end of the GPU's work, ms. */
  totalMs: number
  /** The GPU's part, ms, where the device has timestamps (browsers quantise them to 0.1 ms). */
  gpuMs?: number
}

export interface SwitchOptions {
  /** Whether to measure when the GPU is done. */
  timed?: boolean
  /** Called once the switch is on the queue: what is queued from then on runs on the new set, if the switch is accepted. */
  onSubmitted?: () => void
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
  readonly #slots: WeightSlots
  readonly #deltas: DeltaMerge
  readonly #whole: WholeMerge
  readonly #submission: WholeSubmission
  readonly #layouts: { entries: readonly SetEntry[]; layout: SetLayout }[] = []
  readonly #recipes = new RecipeCache<RecipeKey>(KEPT_RECIPES)
  #active: ActiveSet | undefined
  /** A journal for the next set. */
  #spare: Journal | undefined
  #switching = false

  static async create(options: { gpu: Gpu; weights: WeightStore; experts: ExpertStore }): Promise<Switcher> {
    const { gpu, weights, experts } = options
    const [copies, slots] = await Promise.all([
      BaseCopies.create(gpu, weights),
      WeightSlots.create(gpu, weights),
    ])
    const whole = new WholeMerge(gpu, weights.dtypes, copies)
    const [deltas, submission] = await Promise.all([
      DeltaMerge.create(gpu, weights.dtypes, slots),
      WholeSubmission.create(gpu),
    ])
    return new Switcher(gpu, weights, experts, copies, slots, deltas, whole, submission)
  }

  private constructor(
    gpu: Gpu,
    weights: WeightStore,
    experts: ExpertStore,
    copies: BaseCopies,
    slots: WeightSlots,
    deltas: DeltaMerge,
    whole: WholeMerge,
    submission: WholeSubmission,
  ) {
    this.#gpu = gpu
    this.#weights = weights
    this.#experts = experts
    this.#copies = copies
    this.#slots = slots
    this.#deltas = deltas
    this.#whole = whole
    this.#submission = submission
  }

  /** What is active; empty for the base. */
  get current(): readonly SetEntry[] {
    return this.#active?.entries ?? []
  }

  /** VRAM of what the current set has displaced. */
  get journalBytes(): number {
    return this.#active?.journal.bytes ?? 0
  }

  /** VRAM of copies of tensors that are changed as a whole. */
  get copyBytes(): number {
    return this.#copies.bytes
  }

  /** VRAM that is kept for the next switch. */
  get spareBytes(): number {
    return this.#spare?.bytes ?? 0
  }

  /** Gives back {@link spareBytes} and what the last switches bound; the next one takes longer. */
  trim(): void {
    this.#dropJournal(this.#spare)
    this.#spare = undefined
    this.#recipes.destroy()
    this.#deltas.trim()
  }

  /** @throws {TritswapError} as {@link planOf}, if an expert with this table cannot be applied here */
  check(table: TritTable, only?: ReadonlySet<number>): void {
    planOf([{ table, weight: 1, only }], this.#weights)
  }

  /**
   * Compiles the kernels that an expert with this table needs when it is alone, ahead of a switch to it.
   * @throws {TritswapError} as {@link check}; `webgpu`, `device-lost`
   */
  async prepare(table: TritTable, only?: ReadonlySet<number>): Promise<void> {
    await this.#compile([...planOf([{ table, weight: 1, only }], this.#weights).values()])
  }

  /**
   * Compiles what a set needs, ahead of {@link apply}: a switch that compiles in its turn holds up the whole queue.
   * @returns undefined where nothing is missing
   * @throws {TritswapError} as {@link planOf}; `webgpu`, `device-lost`
   */
  prepareSet(set: readonly SetEntry[]): Promise<unknown> | undefined {
    const layout = this.#layoutOf([...set])
    return this.#compile(Array.from(layout.changes.values(), ({ plan }) => plan))
  }

  /**
   * Makes a set of at most {@link MAX_EXPERTS} (expert, weight) pairs current, whatever is current now. The experts are
   * retained until the next switch. Weight 0 leaves an expert out. Calls must not overlap: wait for one before the
   * next.
   *
   * The device has checked all of a switch before any of it runs, so the current set is untouched if it fails. Resolves once
   * the device has accepted the submission, which is before the GPU has run it: what is queued later runs after it.
   *
   * @throws {TritswapError} as {@link planOf}, `released` for an expert that was evicted, `memory` when VRAM runs out,
   * `webgpu` when the device refuses a call, `device-lost`
   * @throws {Error} for a call during another one
   */
  async apply(set: readonly SetEntry[], options: SwitchOptions = {}): Promise<SwitchTimings> {
    if (this.#switching) throw new Error('a switch is under way already')
    this.#switching = true
    try {
      return await this.#switch([...set], options)
    } finally {
      this.#switching = false
    }
  }

  /** Makes a set current as {@link apply} does, and waits for the GPU's end. */
  async measure(set: readonly SetEntry[]): Promise<SwitchTimings & GpuTimings> {
    const timings = await this.apply(set, { timed: true })
    return { ...timings, ...(await timings.finished) }
  }

  /** Back to the base, bit for bit. */
  revert(options?: SwitchOptions): Promise<SwitchTimings> {
    return this.apply([], options)
  }

  /** Frees everything without restoring the weights: the weight store is destroyed with it. */
  destroy(): void {
    this.#copies.destroy()
    this.trim()
    this.#recipes.destroy()
    this.#active?.journal.destroy()
    for (const { expert } of this.current) if (expert.references > 0) expert.release()
    this.#active = undefined
    this.#slots.destroy()
    this.#deltas.destroy()
    this.#whole.destroy()
    this.#submission.destroy()
  }

  async #switch(entries: SetEntry[], { timed = false, onSubmitted }: SwitchOptions): Promise<SwitchTimings> {
    const started = performance.now()
    const retained: ResidentExpert[] = []
    const fresh: Recipe[] = []
    let scratch: GPUBuffer | undefined
    let journal: Journal | undefined
    let copies: NewCopies | undefined
    let timer: GpuTimer | undefined
    let finished: Promise<GpuTimings> | undefined
    let encodeMs = 0
    let dispatches = 0
    const before = this.#active
    try {
      for (const { expert } of entries) retained.push(expert.retain())
      const layout = this.#layoutOf(entries)
      const { changes } = layout
      await this.#compile(Array.from(changes.values(), ({ plan }) => plan))
      journal = await this.#journalFor(layout)
      const whole = Array.from(changes.values()).filter(({ plan }) => plan.isWhole)
      copies = await this.#copies.reserve(whole.map(({ placement }) => placement))
      const needed = Array.from(changes.values(), ({ plan, shape }) => scratchBytes(plan, shape))
      const bytes = Math.max(0, ...needed)
      if (bytes > 0) [scratch] = await createBuffers(this.#gpu, 'low-rank factors', [bytes])
      if (timed) timer = await GpuTimer.create(this.#gpu)
      const next: ActiveSet = { entries, journal, changes }
      const { moves } = this.#experts.arena
      const batch = await this.#submission.prepare(
        (options) => {
          const from = performance.now()
          const recorded = new Batch(this.#gpu, { ...options, timer })
          timer?.reset()
          drop(fresh)
          fresh.push(...this.#record(recorded, before, next, copies, scratch))
          encodeMs = performance.now() - from
          return recorded
        },
        () => this.#experts.arena.moves,
      )
      const from = performance.now()
      dispatches = batch.dispatches
      const accepted = this.#submission.submit(batch)
      encodeMs += performance.now() - from
      // Before anything else is queued, whose end it would wait for too.
      if (timed) finished = this.#finish(started, timer)
      onSubmitted?.()
      await accepted
      if (fresh.length > 0) {
        if (this.#experts.arena.moves === moves) this.#recipes.keep(this.#keyOf(before, next), fresh)
        else drop(fresh)
      }
      copies.keep()
      this.#copies.retain(new Set(whole.map(({ placement }) => placement.tensor)))
      this.#active = entries.length === 0 ? undefined : next
    } catch (error) {
      timer?.destroy()
      copies?.destroy()
      drop(fresh)
      // What a device has refused may be among what is kept.
      this.#deltas.trim()
      this.#giveBack(journal)
      for (const expert of retained) expert.release()
      throw error
    } finally {
      scratch?.destroy()
    }
    // The new set is on the queue: from here on nothing fails, and what is only reported may be missing.
    if (this.#active === undefined) this.#giveBack(journal)
    this.#giveBack(before?.journal)
    for (const { expert } of before?.entries ?? []) expert.release()
    for (const expert of retained) this.#experts.touch(expert)
    return { totalMs: performance.now() - started, encodeMs, dispatches, finished }
  }

  /** When the GPU has run what is on its queue now. Destroys the timer. */
  async #finish(started: number, timer: GpuTimer | undefined): Promise<GpuTimings> {
    const reading = timer?.read()
    await this.#gpu.device.queue.onSubmittedWorkDone().catch(() => {})
    const totalMs = performance.now() - started
    return { totalMs, gpuMs: await reading }
  }

  /** @returns undefined where nothing is missing */
  #compile(plans: readonly TargetPlan[]): Promise<unknown> | undefined {
    const compiling = [this.#whole.prepare(plans), this.#deltas.prepare(plans)]
    return compiling.every((one) => one === undefined) ? undefined : Promise.all(compiling)
  }

  /** The layout of a set, kept from its last use. */
  #layoutOf(entries: readonly SetEntry[]): SetLayout {
    const kept = this.#layouts.findIndex((one) => isSameSet(one.entries, entries))
    const [found] = kept < 0 ? [] : this.#layouts.splice(kept, 1)
    const layout =
      found?.layout ??
      layOut(
        planOf(
          entries.map(({ expert, weight, only }) => ({ table: expert.table, weight, only })),
          this.#weights,
        ),
        this.#weights,
        this.#slots,
        sharingOf(this.#gpu).lanes,
      )
    this.#layouts.push({ entries, layout })
    if (this.#layouts.length > KEPT_LAYOUTS) this.#layouts.shift()
    return layout
  }

  /** The spare journal where the set fits into it, or a new one. */
  async #journalFor({ spans }: SetLayout): Promise<Journal> {
    const reused = spans.length > 0 ? this.#spare?.reused(this.#gpu, spans) : undefined
    if (reused !== undefined) {
      this.#spare = undefined
      return reused
    }
    try {
      return await Journal.create(this.#gpu, spans, this.#slots.takesMany)
    } catch (error) {
      if (this.#spare === undefined || !isTritswapError(error) || error.tag !== 'memory') throw error
      this.trim()
      return Journal.create(this.#gpu, spans)
    }
  }

  /** Keeps a journal that no set needs for the next one, or destroys it. */
  #giveBack(journal: Journal | undefined): void {
    if (journal === undefined || journal.bytes === 0) return
    const isKept = this.#slots.takesMany && journal.bytes <= this.#weights.bytes * KEPT_JOURNAL
    if (!isKept) {
      this.#dropJournal(journal)
      return
    }
    if (this.#spare?.slot !== journal.slot) this.#dropJournal(this.#spare)
    this.#spare = journal
  }

  #dropJournal(journal: Journal | undefined): void {
    if (journal === undefined) return
    this.#recipes.drop((part) => part === journal.slot)
    journal.destroy()
  }

  #keyOf(before: ActiveSet | undefined, next: ActiveSet): RecipeKey {
    const parts = (set: ActiveSet | undefined) =>
      set === undefined || set.changes.size === 0 ? [undefined, undefined] : [set.changes, set.journal.slot]
    return [...parts(before), ...parts(next), this.#experts.arena.moves]
  }

  /**
   * Records the way from one set to the next. Deltas lie on top of changes of the whole tensor: those are applied first, and
   * where the weights are made anew, what was on them goes by itself.
   * @returns recipes that are not kept yet
   */
  #record(
    batch: Batch,
    before: ActiveSet | undefined,
    next: ActiveSet,
    copies: NewCopies | undefined,
    scratch: GPUBuffer | undefined,
  ): Recipe[] {
    const arena = () => this.#experts.arena.buffer
    const whole: DeltaStep[] = []
    const first: DeltaStep[] = []
    const last: DeltaStep[] = []
    for (const key of new Set([...(before?.changes.keys() ?? []), ...next.changes.keys()])) {
      const from = changeOf(before, before?.changes.get(key))
      const to = changeOf(next, next.changes.get(key))
      if (!isWhole(from) && !isWhole(to)) {
        if (this.#deltas.isOnePass({ from, to })) first.push({ from, to })
        else {
          first.push({ from })
          last.push({ to })
        }
        continue
      }
      if (from !== undefined && !isWhole(from)) first.push({ from })
      whole.push({ from, to })
      if (to !== undefined) last.push({ to })
    }
    const [firstKept, lastKept] = this.#recipes.find(this.#keyOf(before, next)) ?? []
    const firstMade = this.#recordDeltas(batch, arena, first, firstKept)
    copies?.record(batch)
    for (const { from, to } of whole) {
      if (isWhole(to)) this.#whole.record(batch, arena, to, !isWhole(from), scratch)
      else if (from !== undefined) this.#copies.recordBase(batch, from.change.placement)
    }
    const lastMade = this.#recordDeltas(batch, arena, last, lastKept)
    return [firstMade, lastMade].filter((made) => made !== undefined)
  }

  /** Records steps from a recipe, or anew. @returns the recipe if it is a new one */
  #recordDeltas(
    batch: Batch,
    arena: () => GPUBuffer,
    steps: readonly DeltaStep[],
    kept: Recipe | undefined,
  ): Recipe | undefined {
    if (kept === undefined) return this.#deltas.record(batch, arena, steps)
    for (const dispatch of kept.dispatches) batch.run(dispatch)
    return undefined
  }
}

/** Changes and journal of the set before and of the one after, and how often the arena had moved. */
type RecipeKey = readonly unknown[]

function drop(recipes: Recipe[]): void {
  for (const recipe of recipes.splice(0)) recipe.destroy()
}

function isWhole(side: ChangeOfSet | undefined): side is ChangeOfSet {
  return side?.change.plan.isWhole === true
}

function changeOf(set: ActiveSet | undefined, change: TensorChange | undefined): ChangeOfSet | undefined {
  return set && change && { set, change }
}
