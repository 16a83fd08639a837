/**
 * Experts over the weights of a running model: what `attachExperts` and the engine worker share. It owns the order
 * of things: one forward pass or one switch at a time, and the last of several quick switches wins. What a set merges
 * is put on the weights before a pass that wants it; what it has beside them comes with the feeds of the pass.
 *
 * @module
 */

import { SerialQueue } from '../async/serial_queue.ts'
import { abortError, TritswapError } from '../errors.ts'
import { SKETCH_VALUES, type TritHead, type TritTable, weightsOf } from '../format/index.ts'
import type { ExpertStore, ResidentExpert, SetEntry, Switcher, WeightStore } from '../gpu/index.ts'
import { type BaseIdentity, checkBase, unusedTargets } from './base_check.ts'
import type { BypassBuffers, BypassFeeds } from './bypass_buffers.ts'
import { type GraphPlan, planBypass } from './bypass_plan.ts'
import { type BindingChoice, bindExpert, type ExpertBinding } from './expert_bindings.ts'
import { GraphVariants, type VariantSource } from './graph_variants.ts'
import { type GpuTensor, hoistedSession, type OrtSession, type SessionVariant } from './hoisted_session.ts'
import { SiteIndex } from './site_index.ts'
import { renameTargets } from './target_names.ts'

/** An expert of a set, and how it meets the base; all of it is merged where nothing is said. */
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

/** Verified pieces of a payload, in any order. */
export type PayloadPieces = AsyncIterable<{ offset: number; bytes: Uint8Array<ArrayBuffer> }>

/** One line of forward passes (a generation, a pipeline): which experts it wants and which it last ran with. */
export interface PassContext {
  /** The set that the last forward pass ran with. */
  readonly ran: ExpertSet
  /** Makes the line stay with the set that is the default now; true if it had another one. */
  pin(): boolean
  /** Lets go of its experts. The line must not run any more. */
  end(): void
}

interface LineState {
  own: ExpertSet | undefined
  ran: ExpertSet
}

export interface RuntimeParts {
  weights: WeightStore
  experts: ExpertStore
  switcher: Switcher
  base: BaseIdentity
  /** What it takes to have experts beside the weights. */
  beside?: {
    buffers: BypassBuffers
    /** By the names of their sessions. */
    graphs: ReadonlyMap<string, VariantSource>
  }
}

/** What a set needs besides merged weights, from its first use to its last. */
interface SetState {
  holders: number
  plans: ReadonlyMap<string, GraphPlan>
  feeds?: Promise<BypassFeeds<GPUBuffer>>
  /** VRAM of the feeds, once they are there. */
  bytes: number
}

export class ExpertRuntime {
  readonly #weights: WeightStore
  readonly #experts: ExpertStore
  readonly #switcher: Switcher
  readonly #base: BaseIdentity
  readonly #feeds: ReadonlyMap<string, GpuTensor>
  readonly #buffers: BypassBuffers | undefined
  readonly #variants = new Map<string, GraphVariants>()
  readonly #sites: SiteIndex
  readonly #queue = new SerialQueue()
  readonly #lines = new WeakMap<PassContext, LineState>()
  readonly #states = new Map<ExpertSet, SetState>()
  /** Sessions that have run: a switch makes the variants of these ready. */
  readonly #sessions = new Map<string, OrtSession>()
  /** What calls without experts of their own run with. */
  #default: ExpertSet = BASE_SET
  /** What is merged into the weights in VRAM now. */
  #merged: readonly SetEntry[] = []
  #sets = 0
  #tickets = 0
  #switches = 0

  constructor({ weights, experts, switcher, base, beside }: RuntimeParts) {
    this.#weights = weights
    this.#experts = experts
    this.#switcher = switcher
    this.#base = base
    this.#buffers = beside?.buffers
    const graphs = [...(beside?.graphs ?? [])]
    for (const [name, source] of graphs) this.#variants.set(name, new GraphVariants(source))
    this.#sites = new SiteIndex(graphs.map(([name, { graph }]) => [name, graph]))
    this.#feeds = new Map(
      weights
        .feeds()
        .map(({ name, buffer, dtype, dims }) => [
          name,
          { location: 'gpu-buffer', type: dtype, dims, gpuBuffer: buffer } as const,
        ]),
    )
  }

  /** Switches that changed weights or what calls without experts of their own run with, since the start. */
  get switches(): number {
    return this.#switches
  }

  /** VRAM of what is beside the weights: codes, and inputs of the sets in use. */
  get besideBytes(): number {
    let bytes = this.#buffers?.bytes ?? 0
    for (const state of this.#states.values()) bytes += state.bytes
    return bytes
  }

  /** What calls without experts of their own run with. */
  get current(): ExpertSet {
    return this.#default
  }

  /**
   * A line with experts of its own, which it holds in VRAM, or one that follows `activate`.
   * @throws {TritswapError} `released` if one of its experts was evicted
   */
  line(own?: ExpertSet): PassContext {
    if (own) this.#hold(own)
    const state: LineState = { own, ran: BASE_SET }
    const line: PassContext = {
      get ran() {
        return state.ran
      },
      pin: () => {
        if (state.own === this.#default) return false
        this.#hold(this.#default)
        if (state.own) this.#release(state.own)
        state.own = this.#default
        return true
      },
      end: () => {
        if (state.own) this.#release(state.own)
        state.own = undefined
      },
    }
    this.#lines.set(line, state)
    return line
  }

  /** Sessions that run with the experts of `line`. */
  sessions<S extends OrtSession>(sessions: Record<string, S>, line: PassContext): Record<string, S> {
    const state = this.#lines.get(line) as LineState
    return Object.fromEntries(
      Object.entries(sessions).map(([name, session]) => {
        this.#sessions.set(name, session)
        const proxy = hoistedSession(session, this.#feeds, (run) =>
          this.#queue.run(async () => {
            const set = state.own ?? this.#default
            await this.#merge(set)
            const variant = await this.#variantFor(set, name, session)
            state.ran = set
            return run(variant)
          }),
        )
        return [name, proxy]
      }),
    )
  }

  /**
   * Brings an expert into VRAM, compressed as it came.
   * @throws {TritswapError} `mapping`, `base`, `memory`, `format`, `unsupported` where it cannot be bound as wanted;
   * nothing is left behind
   */
  async load(
    head: TritHead,
    name: string,
    pieces: PayloadPieces,
    choice: BindingChoice = 'auto',
  ): Promise<ResidentExpert> {
    const { renamed, base } = await renameTargets(
      head.table,
      this.#base,
      (tensors, seeds) => this.#sketchOfBase(tensors, seeds),
      (target) => this.#sites.sharedBy(target),
    )
    checkBase(head.table, name, base)
    const tensors = head.table.tensors.map((tensor) => ({
      ...tensor,
      target: renamed.get(tensor.target) ?? tensor.target,
    }))
    const table = { ...head.table, tensors }
    const { merged } = this.bind(table, choice)
    this.#switcher.check(table, merged)
    const upload = await this.#experts.begin({ ...head, table })
    try {
      for await (const { offset, bytes } of pieces) await upload.write(offset, bytes)
      return await upload.finish()
    } finally {
      upload.cancel()
    }
  }

  /** @throws {TritswapError} as {@link bindExpert} */
  bind(table: TritTable, choice: BindingChoice): ExpertBinding {
    return bindExpert(table, choice, this.#weights, this.#sites, unusedTargets(table, this.#base))
  }

  /** Sketch values of the base itself, whatever is active. */
  #sketchOfBase(tensors: readonly string[], seeds: readonly string[]): Promise<Float32Array> {
    return this.#queue.run(async () => {
      const before = this.#merged
      await this.#apply([])
      try {
        // Weights that stay integers in their graph are out of sight, but for the values that came with it.
        const seen = tensors.flatMap((name, i) => (this.#weights.knows(name) ? [i] : []))
        const read = await this.#weights.sketchValues(
          seen.map((i) => tensors[i]),
          seen.map((i) => seeds[i]),
        )
        const values = new Float32Array(tensors.length * SKETCH_VALUES).fill(Number.NaN)
        for (const [at, i] of seen.entries())
          values.set(read.subarray(at * SKETCH_VALUES, (at + 1) * SKETCH_VALUES), i * SKETCH_VALUES)
        return values
      } finally {
        await this.#apply(before)
      }
    })
  }

  /**
   * A set with an id of its own, checked.
   * @throws {TritswapError} `input` for weights that are no numbers, `unsupported` for more experts than there is room
   * for
   */
  set(experts: readonly BoundEntry[]): ExpertSet {
    for (const { weight } of experts) {
      if (!Number.isFinite(weight)) {
        throw new TritswapError('input', `Cannot weigh an expert with ${weight}: expected a finite number`)
      }
    }
    if (experts.length === 0) return BASE_SET
    planOf(experts)
    return { id: ++this.#sets, experts }
  }

  /**
   * Makes a set the default, between two forward passes. Resolves once the GPU has done it, with nothing if the set
   * was current.
   * @throws {DOMException} `AbortError` if a later call overtook this one, or the signal was aborted before its turn
   */
  async activate(set: ExpertSet, signal?: AbortSignal): Promise<{ totalMs: number } | undefined> {
    signal?.throwIfAborted()
    const ticket = ++this.#tickets
    return this.#queue.run(async () => {
      if (signal?.aborted) throw abortError(signal)
      if (ticket !== this.#tickets) throw new DOMException('A later switch overtook this one', 'AbortError')
      const before = this.#default
      if (set === before) return undefined
      const start = performance.now()
      const switches = this.#switches
      this.#hold(set)
      try {
        for (const [name, session] of this.#sessions) await this.#variantFor(set, name, session)
        await this.#merge(set)
      } catch (error) {
        this.#release(set)
        throw error
      }
      this.#default = set
      if (this.#switches === switches) this.#switches++
      this.#release(before)
      return { totalMs: performance.now() - start }
    })
  }

  /** Runs `task` while no forward pass and no switch runs. */
  exclusively<T>(task: () => Promise<T>): Promise<T> {
    return this.#queue.run(task)
  }

  /** Gives back the sessions that experts beside the weights run in. Nothing may run any more. */
  async release(): Promise<void> {
    for (const variants of this.#variants.values()) await variants.release()
  }

  /** What a forward pass with a set runs in instead of the plain session, if it has anything beside its weights. */
  async #variantFor(set: ExpertSet, name: string, session: OrtSession): Promise<SessionVariant | undefined> {
    const state = this.#states.get(set)
    const plan = state?.plans.get(name)
    const variants = this.#variants.get(name)
    if (state === undefined || plan === undefined || variants === undefined) return undefined
    state.feeds ??= this.#fill(state)
    const { feeds } = await state.feeds
    const tensors = Array.from(
      feeds.get(name) ?? [],
      ([input, { dtype, dims, buffer }]): [string, GpuTensor] => [
        input,
        { location: 'gpu-buffer', type: dtype, dims, gpuBuffer: buffer },
      ],
    )
    return {
      session: await variants.session(session, plan.bypasses),
      feeds: Object.fromEntries(tensors),
    }
  }

  #fill(state: SetState): Promise<BypassFeeds<GPUBuffer>> {
    const plans = Array.from(state.plans, ([name, plan]) => {
      const { inputs } = (this.#variants.get(name) as GraphVariants).inputsOf(plan.bypasses)
      return [name, { plan, inputs }] as const
    })
    const feeds = (this.#buffers as BypassBuffers).fill(new Map(plans))
    feeds.then(
      ({ bytes }) => {
        state.bytes = bytes
      },
      () => {
        state.feeds = undefined
      },
    )
    return feeds
  }

  /** Brings what a set merges onto the weights. */
  async #merge({ experts }: ExpertSet): Promise<void> {
    const wanted = experts.flatMap(({ expert, weight, binding }): SetEntry[] => {
      if (binding === undefined) return [{ expert, weight }]
      return binding.merged.size > 0 && weight !== 0 ? [{ expert, weight, only: binding.merged }] : []
    })
    if (isSame(wanted, this.#merged)) return
    await this.#apply(wanted)
    this.#switches++
  }

  async #apply(wanted: readonly SetEntry[]): Promise<void> {
    if (isSame(wanted, this.#merged)) return
    await this.#switcher.apply(wanted)
    this.#merged = wanted
  }

  /**
   * Keeps the experts of a set in VRAM until it is released as often as it was held.
   * @throws {TritswapError} `released` if one of them was evicted; then none is held
   */
  #hold(set: ExpertSet): void {
    const held: ResidentExpert[] = []
    try {
      for (const { expert } of set.experts) held.push(expert.retain())
    } catch (error) {
      for (const expert of held) expert.release()
      throw error
    }
    const state = this.#states.get(set) ?? { holders: 0, plans: planOf(set.experts), bytes: 0 }
    state.holders++
    this.#states.set(set, state)
  }

  #release(set: ExpertSet): void {
    for (const { expert } of set.experts) expert.release()
    const state = this.#states.get(set)
    if (state === undefined || --state.holders > 0) return
    this.#states.delete(set)
    state.feeds?.then(
      (feeds) => feeds.destroy(),
      () => {},
    )
  }
}

function planOf(experts: readonly BoundEntry[]): Map<string, GraphPlan> {
  return planBypass(experts.flatMap(({ binding, ...entry }) => (binding ? [{ ...entry, binding }] : [])))
}

function isSame(a: readonly SetEntry[], b: readonly SetEntry[]): boolean {
  return (
    a.length === b.length &&
    a.every(
      ({ expert, weight, only }, i) =>
        expert === b[i].expert && weight === b[i].weight && isEqual(only, b[i].only),
    )
  )
}

function isEqual(a: ReadonlySet<number> | undefined, b: ReadonlySet<number> | undefined): boolean {
  return a === b || (a !== undefined && b !== undefined && a.size === b.size && [...a].every((i) => b.has(i)))
}

/** What `checkBase` needs to know of weights that are in VRAM and that no expert has touched yet. */
export async function identify(
  weights: WeightStore,
  base: Pick<BaseIdentity, 'name' | 'fingerprint' | 'dtype' | 'isUnused'>,
  all: readonly { name: string; target: string; shape: readonly number[] }[],
): Promise<BaseIdentity> {
  // Other roundings of a tensor are changed under its name.
  const tensors = all.filter(({ name, target }) => name === target)
  const names = tensors.map(({ name }) => name)
  const values = await weights.sketchValues(names)
  const valuesAt = (i: number) => values.subarray(i * SKETCH_VALUES, (i + 1) * SKETCH_VALUES)
  return {
    ...base,
    shapes: new Map(tensors.map(({ name, shape }) => [name, shape])),
    sketches: new Map(names.map((name, i) => [name, valuesAt(i)])),
  }
}

/** Weights in a list of tensors. */
export function countWeights(tensors: readonly { shape: readonly number[] }[]): number {
  return tensors.reduce((sum, { shape }) => sum + weightsOf(shape), 0)
}
