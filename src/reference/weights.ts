import { formOf } from '../format/codecs/index.ts'
import {
  decodeValues,
  type HoistedInput,
  readSection,
  SKETCH_VALUES,
  sketchPositions,
} from '../format/index.ts'
import type { ByteSource } from '../source/source.ts'
import { readExpert } from './expert.ts'
import { type CpuFeed, fillFloats, fillRaw } from './graph_feeds.ts'
import { type MergeEntry, mergedTensors, type TensorValues } from './merge.ts'
import { WeightTable } from './weight_table.ts'

/** A prepared base in ordinary memory. */
export class ReferenceWeights extends WeightTable {
  readonly tensors: TensorValues
  /** Of quantized tensors, by name. */
  readonly #sections: ReadonlyMap<string, Uint8Array<ArrayBuffer>>
  /** Feeds of the untouched base, by graph input. */
  readonly #base = new Map<string, CpuFeed>()

  private constructor(
    table: WeightTable,
    tensors: TensorValues,
    sections: ReadonlyMap<string, Uint8Array<ArrayBuffer>>,
  ) {
    super(table)
    this.tensors = tensors
    this.#sections = sections
  }

  /**
   * Reads a whole weights file.
   * @param files - as of {@link WeightTable.read}
   * @throws {TritswapError} what reading and checking a `.trit` file throws
   */
  static async open(source: ByteSource, files?: readonly string[]): Promise<ReferenceWeights> {
    const table = await WeightTable.read(source, files)
    const values = new Map<string, Float32Array<ArrayBuffer>>()
    const sections = new Map<string, Uint8Array<ArrayBuffer>>()
    for (const tensor of table.head.table.tensors) {
      const section = await readSection(source, table.head, tensor)
      values.set(tensor.name, decodeValues(tensor, section))
      if (formOf(tensor).kind === 'nbits') sections.set(tensor.name, section)
    }
    return new ReferenceWeights(table, values, sections)
  }

  /**
   * Feeds of one graph with `changed` tensors in place of the base's own.
   * @param quantized - what becomes of changes of quantized weights: refused, or left to a bypass
   * @throws {TritswapError} `mapping` for a change that is refused
   */
  feeds(
    file: string,
    changed: TensorValues = new Map(),
    quantized: 'refuse' | 'leave' = 'refuse',
  ): Map<string, CpuFeed> {
    const feeds = new Map<string, CpuFeed>()
    for (const input of this.inputsOf(file)) {
      let base = this.#base.get(input.name)
      if (base === undefined) {
        base = this.#fill(input, new Map())
        this.#base.set(input.name, base)
      }
      const isLeft = quantized === 'leave' && input.raw !== undefined
      const touched = !isLeft && input.parts.some(({ tensor }) => changed.has(this.targetOf(tensor)))
      feeds.set(input.name, touched ? this.#fill(input, changed) : base)
    }
    return feeds
  }

  #fill(input: HoistedInput, changed: TensorValues): CpuFeed {
    if (input.raw === undefined) return fillFloats(input, this, (tensor) => this.#valuesOf(tensor, changed))
    const sectionOf = (tensor: string) => this.#sections.get(tensor)!
    return fillRaw(input, input.raw, this, sectionOf, (target) => changed.has(target))
  }

  #valuesOf(tensor: string, changed: TensorValues): Float32Array<ArrayBuffer> {
    const target = this.targetOf(tensor)
    const own = this.tensors.get(tensor)!
    const to = changed.get(target)
    if (to === undefined || target === tensor) return to ?? own
    return movedAlong(own, this.tensors.get(target)!, to)
  }

  /** The weights at the sketch positions of each tensor, which follow from `seeds`. */
  async sketchValues(
    tensors: readonly string[],
    seeds: readonly string[] = tensors,
  ): Promise<Float32Array<ArrayBuffer>> {
    const values = new Float32Array(tensors.length * SKETCH_VALUES)
    for (const [i, name] of tensors.entries())
      values.set(sketchOf(this.tensors.get(name)!, seeds[i]), i * SKETCH_VALUES)
    return values
  }

  /**
   * The tensors that a set of experts changes.
   * @throws {TritswapError} as {@link mergedTensors}
   */
  merged(set: readonly MergeEntry[]): Map<string, Float32Array<ArrayBuffer>> {
    return mergedTensors(this, set)
  }

  /**
   * The tensors that one expert changes.
   * @param only - which tensors of its table to merge; all by default
   * @throws {TritswapError} as {@link mergedTensors}, and what reading a `.trit` file throws
   */
  async patched(
    expert: ByteSource,
    weight = 1,
    only?: ReadonlySet<number>,
  ): Promise<Map<string, Float32Array<ArrayBuffer>>> {
    return this.merged([{ expert: await readExpert(expert), weight, only }])
  }
}

/** A tensor that is another rounding of its target moves by as much as the target does. */
export function movedAlong(
  own: Float32Array<ArrayBuffer>,
  from: Float32Array,
  to: Float32Array,
): Float32Array<ArrayBuffer> {
  return own.map((value, i) => value + (to[i] - from[i]))
}

/** Values of a tensor at the positions that a seed gives. */
export function sketchOf(values: Float32Array, seed: string): Float32Array<ArrayBuffer> {
  return Float32Array.from(sketchPositions(seed, values.length), (position) => values[position])
}
