/**
 * Experts over the weights of a running model: what `attachExperts` and the engine worker share. It owns the order
 * of things: one forward pass or one switch at a time, and the last of several quick switches wins.
 *
 * @module
 */
import { abortError, TritswapError } from '../errors.ts'
import { SKETCH_VALUES, type TritHead, weightsOf } from '../format/index.ts'
import type {
  ExpertStore,
  ResidentExpert,
  SetEntry,
  Switcher,
  SwitchTimings,
  WeightStore,
} from '../gpu/index.ts'
import { type BaseIdentity, checkBase } from './base_check.ts'
import { type GpuTensor, hoistedSession, type OrtSession } from './hoisted_session.ts'
import { renameTargets } from './target_names.ts'
import { Turnstile } from './turnstile.ts'

/** Experts that are current together. `id` counts up with every set; 0 is the untouched base. */
export interface ExpertSet {
  readonly id: number
  readonly experts: readonly SetEntry[]
}

export const BASE_SET: ExpertSet = { id: 0, experts: [] }

/** Verified pieces of a payload, in any order. */
export type PayloadPieces = AsyncIterable<{ offset: number; bytes: Uint8Array<ArrayBuffer> }>

/** One line of forward passes (a generation, a pipeline): which experts it wants and which it last ran with. */
export interface SessionLine {
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
}

export class ExpertRuntime {
  readonly #weights: WeightStore
  readonly #experts: ExpertStore
  readonly #switcher: Switcher
  readonly #base: BaseIdentity
  readonly #feeds: ReadonlyMap<string, GpuTensor>
  readonly #turnstile = new Turnstile()
  readonly #lines = new WeakMap<SessionLine, LineState>()
  /** What calls without experts of their own run with. */
  #default: ExpertSet = BASE_SET
  /** What the weights in VRAM are now. */
  #current: ExpertSet = BASE_SET
  #sets = 0
  #tickets = 0
  #switches = 0

  constructor({ weights, experts, switcher, base }: RuntimeParts) {
    this.#weights = weights
    this.#experts = experts
    this.#switcher = switcher
    this.#base = base
    this.#feeds = new Map(
      weights
        .feeds()
        .map(({ name, buffer, dtype, dims }) => [
          name,
          { location: 'gpu-buffer', type: dtype, dims, gpuBuffer: buffer } as const,
        ]),
    )
  }

  /** Switches that changed weights, since the start. */
  get switches(): number {
    return this.#switches
  }

  get current(): ExpertSet {
    return this.#current
  }

  /**
   * A line with experts of its own, which it holds in VRAM, or one that follows `activate`.
   * @throws {TritswapError} `released` if one of its experts was evicted
   */
  line(own?: ExpertSet): SessionLine {
    if (own) hold(own)
    const state: LineState = { own, ran: BASE_SET }
    const line: SessionLine = {
      get ran() {
        return state.ran
      },
      pin: () => {
        if (state.own === this.#default) return false
        hold(this.#default)
        if (state.own) release(state.own)
        state.own = this.#default
        return true
      },
      end: () => {
        if (state.own) release(state.own)
        state.own = undefined
      },
    }
    this.#lines.set(line, state)
    return line
  }

  /** Sessions that run with the experts of `line`. */
  sessions<S extends OrtSession>(sessions: Record<string, S>, line: SessionLine): Record<string, S> {
    const state = this.#lines.get(line) as LineState
    const around = (run: () => Promise<Record<string, unknown>>) =>
      this.#turnstile.pass(async () => {
        await this.#become(state.own ?? this.#default)
        state.ran = this.#current
        return run()
      })
    return Object.fromEntries(
      Object.entries(sessions).map(([name, session]) => [name, hoistedSession(session, this.#feeds, around)]),
    )
  }

  /**
   * Brings an expert into VRAM, compressed as it came.
   * @throws {TritswapError} `mapping`, `base`, `memory`, `format`; nothing is left behind
   */
  async load(head: TritHead, name: string, pieces: PayloadPieces): Promise<ResidentExpert> {
    const { renamed, base } = await renameTargets(head.table, this.#base, (tensors, seeds) =>
      this.#sketchOfBase(tensors, seeds),
    )
    checkBase(head.table, name, base)
    const tensors = head.table.tensors.map((tensor) => ({
      ...tensor,
      target: renamed.get(tensor.target) ?? tensor.target,
    }))
    const table = { ...head.table, tensors }
    this.#switcher.check(table)
    const upload = await this.#experts.begin({ ...head, table })
    try {
      for await (const { offset, bytes } of pieces) await upload.write(offset, bytes)
      return await upload.finish()
    } finally {
      upload.cancel()
    }
  }

  /** Sketch values of the base itself, whatever is active. */
  #sketchOfBase(tensors: readonly string[], seeds: readonly string[]): Promise<Float32Array> {
    return this.#turnstile.pass(async () => {
      const set = this.#current
      await this.#become(BASE_SET)
      try {
        return await this.#weights.sketchValues(tensors, seeds)
      } finally {
        await this.#become(set)
      }
    })
  }

  /** A set with an id of its own, checked. */
  set(experts: readonly SetEntry[]): ExpertSet {
    for (const { weight } of experts) {
      if (!Number.isFinite(weight)) {
        throw new TritswapError('input', `Cannot weigh an expert with ${weight}: expected a finite number`)
      }
    }
    return experts.length === 0 ? BASE_SET : { id: ++this.#sets, experts }
  }

  /**
   * Makes a set the default, between two forward passes. Resolves once the GPU has done it, with nothing if the set
   * was current.
   * @throws {DOMException} `AbortError` if a later call overtook this one, or the signal was aborted before its turn
   */
  async activate(set: ExpertSet, signal?: AbortSignal): Promise<SwitchTimings | undefined> {
    signal?.throwIfAborted()
    const ticket = ++this.#tickets
    return this.#turnstile.pass(async () => {
      if (signal?.aborted) throw abortError(signal)
      if (ticket !== this.#tickets) throw new DOMException('A later switch overtook this one', 'AbortError')
      const before = this.#default
      hold(set)
      try {
        const timings = await this.#become(set)
        this.#default = set
        release(before)
        return timings
      } catch (error) {
        release(set)
        throw error
      }
    })
  }

  /** Runs `task` while no forward pass and no switch runs. */
  exclusively<T>(task: () => Promise<T>): Promise<T> {
    return this.#turnstile.pass(task)
  }

  async #become(set: ExpertSet): Promise<SwitchTimings | undefined> {
    if (set === this.#current) return undefined
    const timings = await this.#switcher.apply(set.experts)
    this.#current = set
    this.#switches++
    return timings
  }
}

/**
 * Keeps the experts of a set in VRAM until {@link release}.
 * @throws {TritswapError} `released` if one of them was evicted; then none is held
 */
function hold(set: ExpertSet): void {
  const held: ResidentExpert[] = []
  try {
    for (const { expert } of set.experts) held.push(expert.retain())
  } catch (error) {
    for (const expert of held) expert.release()
    throw error
  }
}

function release(set: ExpertSet): void {
  for (const { expert } of set.experts) expert.release()
}

/** What `checkBase` needs to know of weights that are in VRAM and that no expert has touched yet. */
export async function identify(
  weights: WeightStore,
  base: Pick<BaseIdentity, 'name' | 'fingerprint' | 'dtype'>,
  tensors: readonly { name: string; shape: readonly number[] }[],
): Promise<BaseIdentity> {
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
