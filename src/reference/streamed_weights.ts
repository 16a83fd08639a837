import {
  decodeValues,
  type HoistedInput,
  readSection,
  SKETCH_VALUES,
  type TritTensor,
} from '../format/index.ts'
import type { ByteSource } from '../source/source.ts'
import { type CpuFeed, fillFloats, fillRaw } from './graph_feeds.ts'
import { WeightTable } from './weight_table.ts'
import { movedAlong, sketchOf } from './weights.ts'

/** What an expert or a fine-tuning makes of tensors of a base. */
export interface WeightChange {
  targets: ReadonlyMap<string, unknown>
  /** @param own - the base's values, in checkpoint order */
  valuesOf(target: string, own: Float32Array<ArrayBuffer>): Promise<Float32Array<ArrayBuffer>>
}

/** A prepared base whose tensors are read from its weights file when they are asked for, one graph input at a time. */
export class StreamedWeights extends WeightTable {
  readonly #source: ByteSource

  private constructor(table: WeightTable, source: ByteSource) {
    super(table)
    this.#source = source
  }

  /**
   * @param source - of the weights file; it must stay open
   * @param files - as of {@link WeightTable.read}
   * @throws {TritswapError} as {@link WeightTable.read}
   */
  static async open(source: ByteSource, files?: readonly string[]): Promise<StreamedWeights> {
    return new StreamedWeights(await WeightTable.read(source, files), source)
  }

  /** A tensor in checkpoint order. @throws {TritswapError} what reading and checking a `.trit` file throws */
  async values(name: string): Promise<Float32Array<ArrayBuffer>> {
    const tensor = this.tensor(name)
    return decodeValues(tensor, await this.#section(tensor))
  }

  /** The weights at the sketch positions of each tensor, which follow from `seeds`. */
  async sketchValues(
    tensors: readonly string[],
    seeds: readonly string[] = tensors,
  ): Promise<Float32Array<ArrayBuffer>> {
    const values = new Float32Array(tensors.length * SKETCH_VALUES)
    for (const [i, name] of tensors.entries())
      values.set(sketchOf(await this.values(name), seeds[i]), i * SKETCH_VALUES)
    return values
  }

  /** Whether a change reaches a graph input; quantized weights are left to a bypass. */
  isChanged({ raw, parts }: HoistedInput, change: WeightChange | undefined): boolean {
    return raw === undefined && parts.some(({ tensor }) => change?.targets.has(this.targetOf(tensor)))
  }

  /** A graph input of the base, or of what a change makes of it. @throws {TritswapError} as {@link values} */
  async fill(input: HoistedInput, change?: WeightChange): Promise<CpuFeed> {
    const names = new Set(input.parts.map(({ tensor }) => tensor))
    if (input.raw !== undefined) {
      const sections = new Map<string, Uint8Array>()
      for (const name of names) sections.set(name, await this.#section(this.tensor(name)))
      return fillRaw(
        input,
        input.raw,
        this,
        (name) => sections.get(name)!,
        () => false,
      )
    }
    const values = new Map<string, Float32Array<ArrayBuffer>>()
    for (const name of names) values.set(name, await this.#changedValues(name, change))
    return fillFloats(input, this, (name) => values.get(name)!)
  }

  async #changedValues(name: string, change?: WeightChange): Promise<Float32Array<ArrayBuffer>> {
    const target = this.targetOf(name)
    const own = await this.values(name)
    if (!change?.targets.has(target)) return own
    if (target === name) return change.valuesOf(target, own)
    const from = await this.values(target)
    return movedAlong(own, from, await change.valuesOf(target, from))
  }

  #section(tensor: TritTensor): Promise<Uint8Array<ArrayBuffer>> {
    return readSection(this.#source, this.head, tensor)
  }
}
