import { decodeStepsOf } from '../format/codecs/index.ts'
import { tensorsOf } from '../format/contributions.ts'
import { decodeValues, readHead, readSection, type TritHead, type TritTable } from '../format/index.ts'
import type { Steps } from '../format/steps.ts'
import type { ByteSource } from '../source/source.ts'
import type { ReferenceExpert } from './expert.ts'
import { type MergeEntry, mergedTensor, mergeParts } from './merge.ts'
import type { WeightChange } from './streamed_weights.ts'
import type { WeightTable } from './weight_table.ts'

/** An expert whose tensors are decoded when they are asked for: `values` and `steps` hold only those, unless all are held. */
export class StreamedExpert implements ReferenceExpert {
  readonly table: TritTable
  readonly values: Float32Array[]
  readonly steps: Map<number, Steps>
  readonly #head: TritHead
  readonly #source: ByteSource
  #isHeld = false

  private constructor(
    head: TritHead,
    source: ByteSource,
    table: TritTable,
    values: Float32Array[] = [],
    steps = new Map<number, Steps>(),
  ) {
    this.table = table
    this.values = values
    this.steps = steps
    this.#head = head
    this.#source = source
  }

  /** @param source - it must stay open. @throws {TritswapError} what reading a `.trit` file throws */
  static async open(source: ByteSource): Promise<StreamedExpert> {
    const head = await readHead(source)
    return new StreamedExpert(head, source, head.table)
  }

  /** The same expert under another table: its targets as a base calls them. */
  under(table: TritTable): StreamedExpert {
    return new StreamedExpert(this.#head, this.#source, table, this.values, this.steps)
  }

  /** Decodes all tensors, once, for an expert that is asked for again and again. @throws {TritswapError} as {@link load} */
  async hold(): Promise<void> {
    await this.load(this.table.tensors.keys())
    this.#isHeld = true
  }

  /** Decodes tensors of the table into `values`. @throws {TritswapError} what reading a `.trit` file throws */
  async load(indices: Iterable<number>): Promise<void> {
    if (this.#isHeld) return
    for (const index of indices) {
      const tensor = this.table.tensors[index]
      const section = await readSection(this.#source, this.#head, tensor)
      const steps = decodeStepsOf(tensor, section)
      if (steps === undefined) this.values[index] = decodeValues(tensor, section)
      else this.steps.set(index, steps)
    }
  }

  drop(indices: Iterable<number>): void {
    if (this.#isHeld) return
    for (const index of indices) {
      delete this.values[index]
      this.steps.delete(index)
    }
  }
}

/**
 * Experts merged into a base tensor by tensor, each when it is asked for.
 * @param set - `only` says which tensors of an expert's table are merged
 * @throws {TritswapError} as {@link mergeParts}
 */
export function mergeChange(
  base: Pick<WeightTable, 'knows' | 'shapeOf'>,
  set: readonly (MergeEntry & { expert: StreamedExpert })[],
): WeightChange {
  const targets = mergeParts(base, set)
  const expertOf = new Map<readonly Float32Array[], StreamedExpert>(
    set.map(({ expert }) => [expert.values, expert]),
  )
  return {
    targets,
    async valuesOf(target, own) {
      const parts = targets.get(target)!
      const needed = new Map<StreamedExpert, Set<number>>()
      for (const { contribution, values } of Object.values(parts).flat()) {
        const expert = expertOf.get(values)!
        const indices = needed.get(expert) ?? new Set()
        for (const { index } of tensorsOf(contribution)) indices.add(index)
        needed.set(expert, indices)
      }
      for (const [expert, indices] of needed) await expert.load(indices)
      const merged = mergedTensor(own, base.shapeOf(target), parts)
      for (const [expert, indices] of needed) expert.drop(indices)
      return merged
    },
  }
}
