/**
 * The order of things on a running model: one forward pass or one switch at a time, and the last of several quick
 * switches wins. Before a pass, the runtime merges what the set of that pass wants merged; what lies beside the weights
 * comes with the feeds of the pass.
 *
 * @module
 */
import { abortError } from '../errors.ts'
import type { ResidentExpert, Switcher, WeightStore } from '../gpu/index.ts'
import {
  actingPart,
  BASE_SET,
  type BoundEntry,
  bypassPart,
  checkWeights,
  type ExpertSet,
} from './expert_set.ts'
import { type GpuTensor, hoistedSession, type OrtSession, type RunSession } from './hoisted_session.ts'
import { withMergedScales } from './merged_scales.ts'
import { MergedWeights, type Merging } from './merged_weights.ts'
import { overtaken } from './overtaken.ts'
import { type BypassParts, SetsInUse } from './sets_in_use.ts'
import { Turns } from './turns.ts'

/** The forward passes of one caller (a generation, a pipeline): the experts it wants, and those of its last pass. */
export interface PassContext {
  /** The set of the next forward pass, of which some experts may not act in it. */
  readonly wanted: ExpertSet
  /** The set that the last forward pass ran with. */
  readonly ran: ExpertSet
  /** Makes the context stay with the set that is the default now; true if it had another one. */
  pin(): boolean
  /** Lets go of its experts. No pass may run in it any more. */
  end(): void
}

/** What a context asks for beside its set. */
export interface PassOptions {
  /** Waited for before each forward pass takes its turn: how a reader of the results holds them back. */
  ready?: () => Promise<void>
  /** Whether an expert of the set acts in the pass that comes next; all do by default. */
  acts?: (expert: ResidentExpert) => boolean
}

interface ContextState extends PassOptions {
  own: ExpertSet | undefined
  ran: ExpertSet
  /** Until the kernels for its own set are there: a switch that waits for them in its turn would hold up the whole queue. */
  compiling?: Promise<unknown>
  /** A set of which only some experts act, and those: held like a set of its own. */
  part?: { of: ExpertSet; set: ExpertSet }
}

export interface RuntimeParts {
  weights: Pick<WeightStore, 'feeds'>
  switcher: Switcher
  bypass?: BypassParts
}

/**
 * What a switch came to. Times in ms until the device had accepted it: `apply` without the wait for its turn, `total` with it.
 * `sessions`: how many it had to create.
 */
export interface Switched {
  set: number
  apply: number
  total: number
  sessions: number
}

/** `apply` to the end of the GPU's work, ms. */
export interface MeasuredTimes {
  apply: number
  /** The GPU's part, where the device has timestamps. */
  gpuMs?: number
}

export interface ActivateOptions {
  signal?: AbortSignal
  /**
   * Measures the switch to the end of the GPU's work, and resolves only then: the report's `apply` and, where the device has
   * timestamps, `gpuMs`. Tokens do not wait for it.
   */
  timed?: boolean
}

/** Switches after which their rate is known, and forward passes that are taken to come after each of the first. */
const FEW_SWITCHES = 4
const PASSES_OF_ANSWER = 32

export class ExpertRuntime {
  readonly #feeds: ReadonlyMap<string, GpuTensor>
  readonly #merged: MergedWeights
  readonly #sets: SetsInUse
  readonly #queue = new Turns()
  readonly #contexts = new WeakMap<PassContext, ContextState>()
  /** Sessions by name: a switch prepares the variants of these. */
  readonly #sessions = new Map<string, OrtSession>()
  /** What calls without experts of their own run with. */
  /** Of switches that are to be measured, by their sets, until somebody asks. */
  readonly #measured = new Map<number, Promise<MeasuredTimes>>()
  #default: ExpertSet = BASE_SET
  #lastSet = 0
  #tickets = 0
  #switches = 0
  #passes = 0
  /** Resolves once it is clear whether the last switch of the default stays. */
  #settled: Promise<void> = Promise.resolve()

  constructor({ weights, switcher, bypass }: RuntimeParts) {
    this.#merged = new MergedWeights(switcher)
    this.#sets = new SetsInUse(bypass)
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

  /** Forward passes that came between two switches; until there were some switches, what a short answer takes. */
  get passesPerSwitch(): number {
    return this.#switches < FEW_SWITCHES ? PASSES_OF_ANSWER : this.#passes / this.#switches
  }

  /** VRAM of what lies beside the weights: codes, and inputs of the sets in use. */
  get bypassBytes(): number {
    return this.#sets.bypassBytes
  }

  /** What calls without experts of their own run with. */
  get current(): ExpertSet {
    return this.#default
  }

  /**
   * A context with experts of its own, which it holds in VRAM, or one that follows `activate`.
   * @throws {TritswapError} `released` if one of its experts was evicted
   */
  passContext(own?: ExpertSet, options: PassOptions = {}): PassContext {
    if (own) this.#sets.hold(own)
    const state: ContextState = { own, ran: BASE_SET, ...options }
    state.compiling =
      own &&
      this.#merged.prepare(own)?.then(() => {
        state.compiling = undefined
      })
    const wanted = () => state.own ?? this.#default
    const context: PassContext = {
      get wanted() {
        return wanted()
      },
      get ran() {
        return state.ran
      },
      pin: () => {
        if (state.own === this.#default) return false
        this.#sets.hold(this.#default)
        if (state.own) this.#sets.release(state.own)
        state.own = this.#default
        return true
      },
      end: () => {
        if (state.own) this.#sets.release(state.own)
        state.own = undefined
        this.#keepPart(state, undefined)
        this.#queue.dismiss(state)
      },
    }
    this.#contexts.set(context, state)
    return context
  }

  /** Sessions that run with the experts of a context. */
  sessions<S extends OrtSession>(sessions: Record<string, S>, context: PassContext): Record<string, S> {
    const state = this.#contexts.get(context) as ContextState
    return Object.fromEntries(
      Object.entries(sessions).map(([name, session]) => {
        this.#sessions.set(name, session)
        const proxy = hoistedSession(session, this.#feeds, (run) => {
          const waiting = { caller: state, isOn: () => this.#merged.isOn(this.#nextSet(state)) }
          const pass = () => this.#queue.run(() => this.#pass(state, name, session, run), waiting)
          // Not awaited where there is nothing to wait for: the call itself takes its place in the queue.
          if (state.ready === undefined && state.compiling === undefined) return pass()
          let isReady = false
          const ready = Promise.all([state.compiling, state.ready?.()]).then(() => {
            isReady = true
            return pass()
          })
          // A reader that holds its own call back does not hold others back.
          queueMicrotask(() => {
            if (!isReady) this.#queue.dismiss(state)
          })
          return ready
        })
        return [name, proxy]
      }),
    )
  }

  /**
   * A set with an id of its own, checked.
   * @throws {TritswapError} `input` for weights that are not numbers, `unsupported` for more experts than there is room
   * for
   */
  set(experts: readonly BoundEntry[]): ExpertSet {
    checkWeights(experts)
    if (experts.length === 0) return BASE_SET
    const set = { id: this.#lastSet + 1, experts: withMergedScales(experts) }
    bypassPart(set)
    this.#lastSet = set.id
    return set
  }

  /**
   * One forward pass, queued right after the switch to its set. Its results are handed out once the device has accepted that
   * switch; where an earlier call's switch was refused, the pass runs again with the set that is back.
   */
  async #pass(
    state: ContextState,
    name: string,
    session: OrtSession,
    run: RunSession,
  ): Promise<Record<string, unknown>> {
    for (;;) {
      const set = this.#actingSet(state)
      const { changed, accepted } = await this.#merged.bring(set)
      const variant = await this.#sets.variantOf(set, name, session)
      state.ran = set
      this.#passes++
      const outputs = await run(variant)
      try {
        await accepted
      } catch (error) {
        for (const output of Object.values(outputs)) (output as { dispose?(): void }).dispose?.()
        if (changed) throw error
        await this.#settled
        continue
      }
      if (changed) this.#switches++
      return outputs
    }
  }

  /** What the next pass of a context runs with. */
  #nextSet(state: ContextState): ExpertSet {
    const whole = state.own ?? this.#default
    return state.acts === undefined ? whole : actingPart(whole, state.acts)
  }

  /** The same, held in VRAM. */
  #actingSet(state: ContextState): ExpertSet {
    const whole = state.own ?? this.#default
    const set = this.#nextSet(state)
    this.#keepPart(state, set === whole ? undefined : { of: whole, set })
    return set
  }

  #keepPart(state: ContextState, part: ContextState['part']): void {
    const before = state.part?.set
    if (part?.set === before) return
    if (part) this.#sets.hold(part.set)
    if (before) this.#sets.release(before)
    state.part = part
  }

  /**
   * Makes a set the default, between two forward passes. Resolves once the device has accepted the switch: what runs from then on
   * runs on the set. A `timed` one goes on in {@link measured}.
   * @throws {DOMException} `AbortError` if a later call overtook this one, or the signal was aborted before its turn
   */
  async activate(set: ExpertSet, { signal, timed }: ActivateOptions = {}): Promise<Switched> {
    signal?.throwIfAborted()
    const called = performance.now()
    const ticket = ++this.#tickets
    // Beside the passes that run: in its turn it would hold them up.
    const compiling = this.#merged.prepare(set)
    if (compiling !== undefined) await compiling
    const { start, sessions, accepted, finished } = await this.#queue.run(async () => {
      if (signal?.aborted) throw abortError(signal)
      if (ticket !== this.#tickets) throw overtaken()
      await this.#settled
      const start = performance.now()
      const made = this.#sets.sessionsMade
      const switched = await this.#makeDefault(set, timed)
      return { start, sessions: this.#sets.sessionsMade - made, ...switched }
    })
    if (finished) {
      const measured = finished.then((timings) => ({
        apply: performance.now() - start,
        gpuMs: timings?.gpuMs,
      }))
      this.#measured.set(set.id, measured)
      // A switch that the device refuses says so itself.
      measured.catch(() => this.#measured.delete(set.id))
    }
    await accepted
    const now = performance.now()
    return { set: set.id, apply: now - start, total: now - called, sessions }
  }

  /**
   * What the last switch to a set took to the end of the GPU's work, once that is reached; can be asked once.
   * @returns undefined where it was not to be measured, or had nothing to change in the weights
   */
  async measured(set: number): Promise<MeasuredTimes | undefined> {
    const measured = this.#measured.get(set)
    this.#measured.delete(set)
    return measured
  }

  /** Submits the switch to a set and makes it the default, which the set before is again if the device refuses it. */
  async #makeDefault(set: ExpertSet, timed?: boolean): Promise<Omit<Merging, 'changed'>> {
    const before = this.#default
    this.#sets.hold(set)
    let merging: Merging
    try {
      for (const [name, session] of this.#sessions) await this.#sets.variantOf(set, name, session)
      merging = await this.#merged.bring(set, timed)
    } catch (error) {
      this.#sets.release(set)
      throw error
    }
    this.#default = set
    const accepted = merging.accepted.then(
      () => {
        this.#sets.release(before)
        if (merging.changed || set !== before) this.#switches++
      },
      (error) => {
        this.#default = before
        // A pass may run with what the set has beside the weights.
        void this.#queue.run(() => this.#sets.release(set))
        throw error
      },
    )
    this.#settled = accepted.catch(() => {})
    return { accepted, finished: merging.finished }
  }

  /** Makes the sessions ahead that a set of this expert, also with those prepared before, would have to create. */
  prepare(entry: BoundEntry): Promise<void> {
    return this.#queue.run(() => this.#sets.prepare({ id: 0, experts: [entry] }, this.#sessions))
  }

  /** Runs a task while no forward pass and no switch runs. */
  exclusively<T>(task: () => Promise<T>): Promise<T> {
    return this.#queue.run(task)
  }

  /** Runs a task like {@link exclusively}, on the weights of the base. */
  onBase<T>(task: () => Promise<T>): Promise<T> {
    return this.#queue.run(() => this.#merged.withBase(task))
  }

  /** Merges the default set now, so that the experts of a context that has ended need not wait in VRAM for the next pass. */
  settle(): Promise<unknown> {
    return this.#queue.run(async () => (await this.#merged.bring(this.#default)).accepted)
  }

  /** Gives back the sessions that experts beside the weights run in. Nothing may run any more. */
  releaseSessions(): Promise<void> {
    return this.#sets.releaseSessions()
  }
}
