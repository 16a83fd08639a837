import type { SetEntry, Switcher } from '../gpu/index.ts'
import { type ExpertSet, mergedPart } from './expert_set.ts'

/** Keeps track of which experts are merged into the weights in VRAM. Callers take turns: see `ExpertRuntime`. */
export class MergedWeights {
  readonly #switcher: Switcher
  #current: readonly SetEntry[] = []

  constructor(switcher: Switcher) {
    this.#switcher = switcher
  }

  /** Merges what a set wants merged, and nothing else. @returns whether any weight had to change */
  async bring(set: ExpertSet): Promise<boolean> {
    const wanted = mergedPart(set)
    if (isSame(wanted, this.#current)) return false
    await this.#switcher.apply(wanted)
    this.#current = wanted
    return true
  }

  /** Runs a task on the weights of the base, then merges again what was merged before. */
  async withBase<T>(task: () => Promise<T>): Promise<T> {
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
