/**
 * What sets of experts take in VRAM while a forward pass may run with them: their experts are held there, and so are
 * the inputs that they bring beside the weights, with the sessions that have room for those.
 *
 * @module
 */
import type { ResidentExpert } from '../gpu/index.ts'
import type { BypassBuffers, BypassFeeds } from './bypass_buffers.ts'
import type { GraphPlan } from './bypass_plan.ts'
import { bypassPart, type ExpertSet } from './expert_set.ts'
import { type GraphVariant, GraphVariants, type VariantSource } from './graph_variants.ts'
import type { GpuTensor, OrtSession, SessionVariant } from './hoisted_session.ts'

/** What it takes to have experts beside the weights. */
export interface BypassParts {
  buffers: BypassBuffers
  /** By the names of their sessions. */
  graphs: ReadonlyMap<string, VariantSource>
}

/** From the first use of a set to its last. */
interface SetState {
  holders: number
  plans: ReadonlyMap<string, GraphPlan>
  /** What it runs in, by graph, once its feeds are on their way. */
  variants: ReadonlyMap<string, GraphVariant>
  feeds?: Promise<BypassFeeds<GPUBuffer>>
  /** VRAM of the feeds, once they are filled. */
  bytes: number
}

export class SetsInUse {
  readonly #buffers: BypassBuffers | undefined
  readonly #variants: ReadonlyMap<string, GraphVariants>
  readonly #states = new Map<ExpertSet, SetState>()

  constructor({ buffers, graphs }: Partial<BypassParts> = {}) {
    this.#buffers = buffers
    this.#variants = new Map(Array.from(graphs ?? [], ([name, source]) => [name, new GraphVariants(source)]))
  }

  /** Sessions with room beside the weights that were created since the start. */
  get sessionsMade(): number {
    return [...this.#variants.values()].reduce((sum, { made }) => sum + made, 0)
  }

  /** VRAM of what lies beside the weights: codes, and inputs of the sets in use. */
  get bypassBytes(): number {
    let bytes = this.#buffers?.bytes ?? 0
    for (const state of this.#states.values()) bytes += state.bytes
    return bytes
  }

  /**
   * Keeps the experts of a set in VRAM until it is released as often as it was held.
   * @throws {TritswapError} `released` if one of them was evicted; then none is held
   */
  hold(set: ExpertSet): void {
    const held: ResidentExpert[] = []
    try {
      for (const { expert } of set.experts) held.push(expert.retain())
    } catch (error) {
      for (const expert of held) expert.release()
      throw error
    }
    const state = this.#states.get(set) ?? {
      holders: 0,
      plans: bypassPart(set),
      variants: new Map(),
      bytes: 0,
    }
    state.holders++
    this.#states.set(set, state)
  }

  release(set: ExpertSet): void {
    for (const { expert } of set.experts) expert.release()
    const state = this.#states.get(set)
    if (state === undefined || --state.holders > 0) return
    this.#states.delete(set)
    state.feeds?.then(
      (feeds) => feeds.destroy(),
      () => {},
    )
  }

  /**
   * What a forward pass with a set runs in instead of the plain session; undefined if the set has nothing beside its
   * weights. Only to be called while nothing runs.
   */
  async variantOf(set: ExpertSet, name: string, session: OrtSession): Promise<SessionVariant | undefined> {
    const state = this.#states.get(set)
    const variants = this.#variants.get(name)
    if (state === undefined || variants === undefined || !state.plans.has(name)) return undefined
    state.feeds ??= this.#fill(state)
    const { feeds } = await state.feeds
    const variant = state.variants.get(name) as GraphVariant
    const tensors = Array.from(
      feeds.get(name) ?? [],
      ([input, { dtype, dims, buffer }]): [string, GpuTensor] => [
        input,
        { location: 'gpu-buffer', type: dtype, dims, gpuBuffer: buffer },
      ],
    )
    return {
      session: await variants.session(session, variant),
      feeds: Object.fromEntries(tensors),
    }
  }

  /** Makes sessions ahead: those in which a set runs, alone and with what came before it. As {@link variantOf}. */
  async prepare(set: ExpertSet, sessions: ReadonlyMap<string, OrtSession>): Promise<void> {
    for (const [name, { bypasses }] of bypassPart(set)) {
      const session = sessions.get(name)
      const isUsed = (variant: GraphVariant) =>
        [...this.#states.values()].some(({ variants }) => variants.get(name) === variant)
      if (session !== undefined) await this.#variants.get(name)?.prepare(session, bypasses, isUsed)
    }
  }

  /** Gives back the sessions that have room beside the weights. Nothing may run any more. */
  async releaseSessions(): Promise<void> {
    for (const variants of this.#variants.values()) await variants.release()
  }

  #fill(state: SetState): Promise<BypassFeeds<GPUBuffer>> {
    state.variants = new Map(
      Array.from(state.plans, ([name, { bypasses }]) => [
        name,
        (this.#variants.get(name) as GraphVariants).variantFor(bypasses),
      ]),
    )
    const plans = Array.from(state.plans, ([name, plan]) => {
      const { inputs } = state.variants.get(name) as GraphVariant
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
}
