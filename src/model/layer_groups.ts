/**
 * Weights that differ by layer: the layers of a base in groups of equally many, from the first to the last.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import type { TritTable } from '../format/index.ts'
import type { ExpertBinding } from './expert_bindings.ts'

/** What is before the number of a layer in the name of a tensor, and the number: `model.layers`, 3. */
const LAYER = /^(.*?)\.(\d+)\./

/** The layers of a base, by the names of its tensors. Encoder and decoder count each for itself. */
export class LayerGroups {
  /** Layers of each stack. */
  readonly #depths = new Map<string, number>()

  /** @param tensors - names in the base's checkpoint */
  constructor(tensors: Iterable<string>) {
    for (const name of tensors) {
      const at = layerOf(name)
      if (at !== undefined)
        this.#depths.set(at.stack, Math.max(this.#depths.get(at.stack) ?? 0, at.layer + 1))
    }
  }

  /** Layers of the deepest stack; 1 where there are none. */
  get depth(): number {
    return Math.max(1, ...this.#depths.values())
  }

  /** The group that a tensor belongs to, of `count`. What is in no layer belongs to the last: heads, norms, embeddings. */
  of(target: string, count: number): number {
    const at = layerOf(target)
    const depth = at && this.#depthOf(at.stack)
    if (at === undefined || depth === undefined) return count - 1
    return Math.min(count - 1, Math.floor((at.layer * count) / depth))
  }

  /** Checkpoints of one model call a stack `layers` or `model.layers`. */
  #depthOf(stack: string): number | undefined {
    const found = this.#depths.get(stack)
    if (found !== undefined) return found
    const alike = [...this.#depths].filter(([own]) => own.endsWith(`.${stack}`) || stack.endsWith(`.${own}`))
    return alike.length === 1 ? alike[0][1] : undefined
  }

  /** @throws {TritswapError} `input` for numbers that are not finite, none, or more than there are layers */
  check(groups: readonly number[]): void {
    this.checkCount(groups.length)
    if (groups.every(Number.isFinite)) return
    throw new TritswapError(
      'input',
      `Cannot weigh groups of layers with ${groups.join(', ')}: expected finite numbers`,
      { fields: { groups: [...groups] } },
    )
  }

  /** @throws {TritswapError} `input` */
  checkCount(count: number): void {
    if (Number.isInteger(count) && count >= 1 && count <= this.depth) return
    throw new TritswapError(
      'input',
      `Cannot make ${count} groups of layers: expected 1 to ${this.depth}, the layers of this base`,
      { fields: { groups: count, layers: this.depth } },
    )
  }
}

function layerOf(name: string): { stack: string; layer: number } | undefined {
  const match = LAYER.exec(name)
  return match === null ? undefined : { stack: match[1], layer: Number(match[2]) }
}

/** What the weight of an expert is multiplied with in each group of layers of a base. */
export interface LayerFactors {
  factors: readonly number[]
  layers: LayerGroups
}

/** An entry of a set as one for each group of layers, with the part of its binding that is there; itself where it has no groups. */
export function entriesByGroup<
  E extends {
    expert: { table: Pick<TritTable, 'tensors'> }
    weight: number
    groups?: LayerFactors
    binding: ExpertBinding
  },
>(entry: E): E[] {
  const { weight, groups, binding, expert } = entry
  if (groups === undefined) return [entry]
  const { factors, layers } = groups
  return factors.map((factor, group) => {
    const isHere = (target: string) => layers.of(target, factors.length) === group
    const merged = [...binding.merged].filter((index) => isHere(expert.table.tensors[index].target))
    const bypass = binding.bypass.filter(({ part }) => isHere(part.target))
    return {
      ...entry,
      groups: undefined,
      weight: weight * factor,
      binding: { ...binding, merged: new Set(merged), bypass },
    }
  })
}
