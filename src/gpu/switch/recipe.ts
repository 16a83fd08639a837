import type { BoundDispatch } from '../batch.ts'

/** Dispatches with all that they are bound to: they can be recorded as often as the same switch is made. */
export interface Recipe {
  dispatches: readonly BoundDispatch[]
  destroy(): void
}

interface Kept<Key> {
  key: Key
  recipes: readonly Recipe[]
}

/** The recipes of the last switches: going back and forth between two sets binds nothing anew. */
export class RecipeCache<Key extends readonly unknown[]> {
  readonly #limit: number
  /** The last used last. */
  #kept: Kept<Key>[] = []

  constructor(limit: number) {
    this.#limit = limit
  }

  find(key: Key): readonly Recipe[] | undefined {
    const found = this.#kept.find((kept) => kept.key.every((part, i) => part === key[i]))
    if (found === undefined) return undefined
    this.#kept = [...this.#kept.filter((kept) => kept !== found), found]
    return found.recipes
  }

  keep(key: Key, recipes: readonly Recipe[]): void {
    this.#kept.push({ key, recipes })
    if (this.#kept.length > this.#limit) destroyAll(this.#kept.splice(0, 1))
  }

  /** Drops the recipes whose key has one of these parts. */
  drop(isGone: (part: Key[number]) => boolean): void {
    const gone = this.#kept.filter(({ key }) => key.some(isGone))
    this.#kept = this.#kept.filter((kept) => !gone.includes(kept))
    destroyAll(gone)
  }

  destroy(): void {
    destroyAll(this.#kept)
    this.#kept = []
  }
}

function destroyAll(kept: readonly Kept<unknown>[]): void {
  for (const { recipes } of kept) for (const recipe of recipes) recipe.destroy()
}
