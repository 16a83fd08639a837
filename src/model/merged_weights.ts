import { type GpuTimings, isSameSet, type SetEntry, type Switcher } from '../gpu/index.ts'
import { type ExpertSet, mergedPart } from './expert_set.ts'

/** A change of the weights that is on the GPU's queue, or none. */
export interface Merging {
  /** Whether any weight had to change. */
  changed: boolean
  /**
   * Resolves once the device has accepted all that is on its queue. What ran since then on the set was right if it does, and on
   * the set before if it rejects.
   */
  accepted: Promise<void>
  /** Where that was asked for and something changed: when the GPU has run it. Rejects as `accepted` does. */
  finished?: Promise<GpuTimings | undefined>
}

/** Keeps track of which experts are merged into the weights in VRAM. Callers take turns: see `ExpertRuntime`. */
export class MergedWeights {
  readonly #switcher: Switcher
  #current: readonly SetEntry[] = []
  /** Of the last switch. */
  #accepted: Promise<void> = Promise.resolve()

  constructor(switcher: Switcher) {
    this.#switcher = switcher
  }

  /**
   * Compiles what a switch to a set lacks. Where that fails, the switch says why.
   * @returns undefined where it lacks nothing
   */
  prepare(set: ExpertSet): Promise<unknown> | undefined {
    try {
      return this.#switcher.prepareSet(mergedPart(set))?.catch(() => {})
    } catch {
      return undefined
    }
  }

  /**
   * Merges what a set wants merged, and nothing else. Resolves once that is on the GPU's queue: the queue keeps the order, so
   * nothing waits for the GPU.
   * @param timed - whether to measure when the GPU is done
   * @throws {TritswapError} as `Switcher.apply`, for what fails before
   */
  async bring(set: ExpertSet, timed = false): Promise<Merging> {
    const wanted = mergedPart(set)
    if (!isSameSet(wanted, this.#current)) await this.settled()
    if (isSameSet(wanted, this.#current)) return { changed: false, accepted: this.#accepted }
    const before = this.#current
    let submitted = () => {}
    const onQueue = new Promise<void>((resolve) => {
      submitted = resolve
    })
    const switched = this.#switcher.apply(wanted, { timed, onSubmitted: submitted })
    await Promise.race([onQueue, switched])
    this.#current = wanted
    this.#accepted = switched.then(
      () => {},
      (error) => {
        // What is on the weights now was accepted before.
        this.#current = before
        this.#accepted = Promise.resolve()
        throw error
      },
    )
    this.#accepted.catch(() => {})
    const finished = timed ? switched.then((timings) => timings.finished) : undefined
    finished?.catch(() => {})
    return { changed: true, accepted: this.#accepted, finished }
  }

  /** Whether the weights are as a set wants them, or will be once the device accepts the last switch. */
  isOn(set: ExpertSet): boolean {
    return isSameSet(mergedPart(set), this.#current)
  }

  /** Waits until the device has accepted or refused the last switch. */
  async settled(): Promise<void> {
    await this.#accepted.catch(() => {})
  }

  /** Runs a task on the weights of the base, then merges again what was merged before. */
  async withBase<T>(task: () => Promise<T>): Promise<T> {
    await this.settled()
    const before = this.#current
    if (before.length === 0) return task()
    await this.#switcher.apply([])
    this.#current = []
    try {
      return await task()
    } finally {
      await this.#switcher.apply(before)
      this.#current = before
    }
  }
}
