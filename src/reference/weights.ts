import { TritswapError } from '../errors.ts'
import { formOf } from '../format/codecs/index.ts'
import { type NBitsComponent, nbitsLayout } from '../format/codecs/nbits_decode.ts'
import type { FloatInputDtype, InputDtype } from '../format/dtype.ts'
import { floatsToHalves } from '../format/float16.ts'
import {
  type BaseBindings,
  bindingsFrom,
  decodeValues,
  ELEMENT_BYTES,
  type HoistedInput,
  readHead,
  readSection,
  SKETCH_VALUES,
  sketchPositions,
  type TritHead,
  type TritTensor,
  tilingOf,
  weightsOf,
} from '../format/index.ts'
import type { ByteSource } from '../source/source.ts'
import { readExpert } from './expert.ts'
import { type MergeEntry, mergedTensors, type TensorValues } from './merge.ts'

/** A graph input as an onnxruntime tensor on the CPU takes it; f16 as raw bits. */
export interface CpuFeed {
  dtype: InputDtype
  dims: readonly number[]
  data: Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer> | Uint8Array<ArrayBuffer>
}

/** A prepared base in ordinary memory. */
export class ReferenceWeights {
  readonly head: TritHead
  readonly bindings: BaseBindings
  readonly tensors: TensorValues
  readonly #byName: ReadonlyMap<string, TritTensor>
  /** Of quantized tensors, by name. */
  readonly #sections: ReadonlyMap<string, Uint8Array<ArrayBuffer>>
  /** Feeds of the untouched base, by graph input. */
  readonly #base = new Map<string, CpuFeed>()

  private constructor(
    head: TritHead,
    bindings: BaseBindings,
    tensors: TensorValues,
    sections: ReadonlyMap<string, Uint8Array<ArrayBuffer>>,
  ) {
    this.#byName = new Map(head.table.tensors.map((tensor) => [tensor.name, tensor]))
    this.#sections = sections
    this.head = head
    this.bindings = bindings
    this.tensors = tensors
  }

  /** Reads a whole weights file. @throws {TritswapError} what reading and checking a `.trit` file throws */
  static async open(source: ByteSource): Promise<ReferenceWeights> {
    const head = await readHead(source)
    const { tensors, bindings } = head.table
    if (bindings === undefined) {
      throw new TritswapError(
        'input',
        `Cannot use ${source.name} as a base: it has no bindings; prepare it with tritswap prepare`,
      )
    }
    const values = new Map<string, Float32Array<ArrayBuffer>>()
    const sections = new Map<string, Uint8Array<ArrayBuffer>>()
    for (const tensor of tensors) {
      const section = await readSection(source, head, tensor)
      values.set(tensor.name, decodeValues(tensor, section))
      if (formOf(tensor).kind === 'nbits') sections.set(tensor.name, section)
    }
    return new ReferenceWeights(head, bindingsFrom(bindings, tensors), values, sections)
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
    const graph = this.bindings.graphs.find((candidate) => candidate.file === file)
    const feeds = new Map<string, CpuFeed>()
    for (const input of graph?.inputs ?? []) {
      let base = this.#base.get(input.name)
      if (base === undefined) {
        base = this.#fill(input, new Map())
        this.#base.set(input.name, base)
      }
      const isLeft = quantized === 'leave' && input.raw !== undefined
      const touched = !isLeft && input.parts.some(({ tensor }) => changed.has(this.#targetOf(tensor)))
      feeds.set(input.name, touched ? this.#fill(input, changed) : base)
    }
    return feeds
  }

  #fill(input: HoistedInput, changed: TensorValues): CpuFeed {
    const { dtype, dims, raw, parts } = input
    if (raw !== undefined) return this.#fillRaw(input, raw, changed)
    const floats = new Float32Array(weightsOf(dims))
    for (const { tensor, offset, rowStride, colStride } of parts) {
      const from = this.#valuesOf(tensor, changed)
      const { rows, cols } = tilingOf(this.shapeOf(tensor))
      for (let row = 0, i = 0; row < rows; row++) {
        for (let col = 0, at = offset + row * rowStride; col < cols; col++, at += colStride)
          floats[at] = from[i++]
      }
    }
    return { dtype, dims, data: dtype === 'float32' ? floats : floatsToHalves(floats) }
  }

  /** @throws {TritswapError} `mapping` where one of its tensors is changed, as quantized weights cannot be */
  #fillRaw({ dtype, dims, parts }: HoistedInput, raw: NBitsComponent, changed: TensorValues): CpuFeed {
    const bytes = new Uint8Array(weightsOf(dims) * ELEMENT_BYTES[dtype])
    for (const { tensor: name, offset } of parts) {
      const tensor = this.#byName.get(name)
      const form = tensor && formOf(tensor)
      if (tensor === undefined || changed.has(this.#targetOf(name)) || form?.kind !== 'nbits') {
        throw new TritswapError('mapping', `Cannot change ${name}: its weights stay quantized in this base`, {
          fields: { tensor: name, quantized: true },
        })
      }
      const component = nbitsLayout(tensor.shape, form.code).components[raw]!
      const section = this.#sections.get(name)!
      bytes.set(
        section.subarray(component.offset, component.offset + component.bytes),
        offset * ELEMENT_BYTES[dtype],
      )
    }
    const views = { float32: Float32Array, float16: Uint16Array, uint8: Uint8Array }
    return { dtype, dims, data: new views[dtype](bytes.buffer) }
  }

  #targetOf(tensor: string): string {
    return this.#byName.get(tensor)!.target
  }

  /** A tensor that is another rounding of its target moves by as much as the target does. */
  #valuesOf(tensor: string, changed: TensorValues): Float32Array<ArrayBuffer> {
    const target = this.#targetOf(tensor)
    const own = this.tensors.get(tensor)!
    const to = changed.get(target)
    if (to === undefined || target === tensor) return to ?? own
    const from = this.tensors.get(target)!
    return own.map((value, i) => value + (to[i] - from[i]))
  }

  /** Inputs that hold a target's floats. */
  floatPlacementsOf(target: string): { input: string; dtype: FloatInputDtype }[] {
    return this.#inputsOf(target).flatMap(({ name, dtype, raw }) =>
      raw === undefined ? [{ input: name, dtype: dtype as FloatInputDtype }] : [],
    )
  }

  /** Whether a target is quantized in one of its inputs. */
  isQuantized(target: string): boolean {
    return this.#inputsOf(target).some(({ raw }) => raw !== undefined)
  }

  knows(tensor: string): boolean {
    return this.tensors.has(tensor)
  }

  /** The weights at the sketch positions of each tensor, which follow from `seeds`. */
  async sketchValues(
    tensors: readonly string[],
    seeds: readonly string[] = tensors,
  ): Promise<Float32Array<ArrayBuffer>> {
    const values = new Float32Array(tensors.length * SKETCH_VALUES)
    for (const [i, name] of tensors.entries()) {
      const own = this.tensors.get(name)!
      const at = sketchPositions(seeds[i], own.length)
      values.set(
        Float32Array.from(at, (position) => own[position]),
        i * SKETCH_VALUES,
      )
    }
    return values
  }

  #inputsOf(target: string): HoistedInput[] {
    return this.bindings.graphs.flatMap(({ inputs }) =>
      inputs.filter(({ parts }) => parts.some(({ tensor }) => this.#targetOf(tensor) === target)),
    )
  }

  /** @throws {TritswapError} `mapping` for a tensor that this base does not have */
  shapeOf(tensor: string): readonly number[] {
    const found = this.#byName.get(tensor)
    if (found === undefined) {
      throw new TritswapError('mapping', `Cannot change ${tensor}: this base has no such tensor`, {
        fields: { tensor },
      })
    }
    return found.shape
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
