/**
 * A prepared base in ordinary memory, patched by the reference decoder: what results on a GPU are compared with,
 * and what evaluation in Node runs on. The page never imports it.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { floatsToHalves } from '../format/float16.ts'
import {
  type BaseBindings,
  type BlocksComponent,
  bindingsFrom,
  blocksLayout,
  decodeValues,
  ELEMENT_BYTES,
  type HoistedInput,
  readHead,
  readSection,
  type TritHead,
  type TritTensor,
  tilingOf,
  weightsOf,
} from '../format/index.ts'
import type { ByteSource } from '../source/source.ts'

/** Values of tensors in checkpoint order, by checkpoint name. */
export type TensorValues = ReadonlyMap<string, Float32Array<ArrayBuffer>>

/** A graph input as an onnxruntime tensor on the CPU takes it; f16 as raw bits. */
export interface CpuFeed {
  dtype: 'float32' | 'float16' | 'uint8'
  dims: readonly number[]
  data: Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer> | Uint8Array<ArrayBuffer>
}

export class ReferenceWeights {
  readonly head: TritHead
  readonly bindings: BaseBindings
  readonly tensors: TensorValues
  /** Of quantized tensors. */
  readonly #sections: ReadonlyMap<string, Uint8Array<ArrayBuffer>>
  readonly #base = new Map<string, CpuFeed>()

  private constructor(
    head: TritHead,
    bindings: BaseBindings,
    tensors: TensorValues,
    sections: ReadonlyMap<string, Uint8Array<ArrayBuffer>>,
  ) {
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
      if (tensor.codec === 'blocks') sections.set(tensor.name, section)
    }
    return new ReferenceWeights(head, bindingsFrom(bindings, tensors), values, sections)
  }

  /**
   * Feeds of one graph with `changed` tensors in place of the base's own.
   * @param kept - what becomes of changes of quantized weights: refused, or left out where they are made beside them
   * @throws {TritswapError} `mapping` for a change that is refused
   */
  feeds(
    file: string,
    changed: TensorValues = new Map(),
    kept: 'refuse' | 'leave' = 'refuse',
  ): Map<string, CpuFeed> {
    const graph = this.bindings.graphs.find((candidate) => candidate.file === file)
    const feeds = new Map<string, CpuFeed>()
    for (const input of graph?.inputs ?? []) {
      let base = this.#base.get(input.name)
      if (base === undefined) {
        base = this.#fill(input, new Map())
        this.#base.set(input.name, base)
      }
      const isLeft = kept === 'leave' && input.raw !== undefined
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

  /** @throws {TritswapError} `mapping` where one of its tensors is changed: quantized weights cannot be */
  #fillRaw({ dtype, dims, parts }: HoistedInput, raw: BlocksComponent, changed: TensorValues): CpuFeed {
    const bytes = new Uint8Array(weightsOf(dims) * ELEMENT_BYTES[dtype])
    for (const { tensor: name, offset } of parts) {
      const tensor = this.head.table.tensors.find((candidate) => candidate.name === name)
      if (changed.has(this.#targetOf(name)) || tensor?.codec !== 'blocks') {
        throw new TritswapError('mapping', `Cannot change ${name}: its weights stay quantized in this base`, {
          fields: { tensor: name, quantized: true },
        })
      }
      const component = blocksLayout(tensor.shape, tensor).components[raw]!
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
    return this.head.table.tensors.find(({ name }) => name === tensor)!.target
  }

  /** Another rounding of a changed tensor moves by what that moved. */
  #valuesOf(tensor: string, changed: TensorValues): Float32Array<ArrayBuffer> {
    const target = this.#targetOf(tensor)
    const own = this.tensors.get(tensor)!
    const to = changed.get(target)
    if (to === undefined || target === tensor) return to ?? own
    const from = this.tensors.get(target)!
    return own.map((value, i) => value + (to[i] - from[i]))
  }

  /** Inputs that hold a target's floats. */
  floatPlacementsOf(target: string): { input: string; dtype: 'float32' | 'float16' }[] {
    return this.#inputsOf(target).flatMap(({ name, dtype, raw }) =>
      raw === undefined ? [{ input: name, dtype: dtype as 'float32' | 'float16' }] : [],
    )
  }

  /** Whether a target is quantized in one of its places. */
  isQuantized(target: string): boolean {
    return this.#inputsOf(target).some(({ raw }) => raw !== undefined)
  }

  #inputsOf(target: string): HoistedInput[] {
    return this.bindings.graphs.flatMap(({ inputs }) =>
      inputs.filter(({ parts }) => parts.some(({ tensor }) => this.#targetOf(tensor) === target)),
    )
  }

  /** @throws {TritswapError} `mapping` for a tensor that this base does not have */
  shapeOf(tensor: string): readonly number[] {
    const found = this.head.table.tensors.find(({ name }) => name === tensor)
    if (found === undefined) {
      throw new TritswapError('mapping', `Cannot change ${tensor}: this base has no such tensor`, {
        fields: { tensor },
      })
    }
    return found.shape
  }

  /**
   * The tensors that an expert changes, as f32 base + weight·delta, rounded once per weight and expert.
   * @param only - which tensors of its table to merge; all by default
   * @throws {TritswapError} `mapping` for tensors that this base does not have
   */
  async patched(
    expert: ByteSource,
    weight = 1,
    only?: ReadonlySet<number>,
  ): Promise<Map<string, Float32Array<ArrayBuffer>>> {
    const head = await readHead(expert)
    const changed = new Map<string, Float32Array<ArrayBuffer>>()
    const factors = new Map<string, { a?: Factor; b?: Factor }>()
    for (const [index, tensor] of head.table.tensors.entries()) {
      if (only !== undefined && !only.has(index)) continue
      const { target, role } = tensor
      this.shapeOf(target)
      const values = await readValues(expert, head, tensor)
      if (role === 'loraA' || role === 'loraB') {
        const pair = factors.get(target) ?? {}
        pair[role === 'loraA' ? 'a' : 'b'] = { tensor, values }
        factors.set(target, pair)
        continue
      }
      const current = (name: string) => (changed.get(name) ?? this.tensors.get(name)!).slice()
      const out = current(target)
      if (role === 'delta') for (let i = 0; i < out.length; i++) out[i] += weight * values[i]
      else scaleModule(out, this.shapeOf(target), tensor, values, weight)
      changed.set(target, out)
      // (IA)³ scales what a module puts out, and its bias is part of that.
      const bias = target.replace(/\.weight$/, '.bias')
      if (role === 'ia3' && tensor.feedforward !== true && bias !== target && this.tensors.has(bias)) {
        const scaled = current(bias)
        for (let i = 0; i < scaled.length; i++) scaled[i] *= 1 + weight * values[i]
        changed.set(bias, scaled)
      }
    }
    for (const [target, { a, b }] of factors) {
      if (a === undefined || b === undefined) {
        throw new TritswapError(
          'format',
          `Cannot merge the LoRA factors of ${target}: one of the two is missing`,
        )
      }
      const out = (changed.get(target) ?? this.tensors.get(target)!).slice()
      addProduct(out, this.shapeOf(target), a, b, weight)
      changed.set(target, out)
    }
    return changed
  }
}

interface Factor {
  tensor: TritTensor
  values: Float32Array
}

/** Values of one tensor of a `.trit` file; a ternary one as 0 and ±scale. */
export async function readValues(
  source: ByteSource,
  head: TritHead,
  tensor: TritTensor,
): Promise<Float32Array<ArrayBuffer>> {
  return decodeValues(tensor, await readSection(source, head, tensor))
}

/** W += weight·scaling·B·A, in the layout of the module: Conv1D and embeddings keep the transpose. */
function addProduct(out: Float32Array, shape: readonly number[], a: Factor, b: Factor, weight: number): void {
  const { rows, cols } = tilingOf(shape)
  const transposed = a.tensor.layout === 'conv1d' || a.tensor.layout === 'embedding'
  const rank = a.tensor.shape[0]
  const [outs, ins] = transposed ? [cols, rows] : [rows, cols]
  if (a.values.length !== rank * ins || b.values.length !== outs * rank) {
    throw new TritswapError(
      'base',
      `Cannot merge ${b.tensor.name}: its factors do not make a matrix of ${shape.join('×')}`,
    )
  }
  const factor = weight * (b.tensor.scaling ?? 1)
  for (let o = 0; o < outs; o++) {
    for (let i = 0; i < ins; i++) {
      let sum = 0
      for (let r = 0; r < rank; r++) sum += b.values[o * rank + r] * a.values[r * ins + i]
      out[transposed ? i * cols + o : o * cols + i] += factor * sum
    }
  }
}

/** (IA)³: scales the outputs of a module, or with `feedforward` its inputs, by 1 + weight·v. */
function scaleModule(
  out: Float32Array,
  shape: readonly number[],
  tensor: TritTensor,
  values: Float32Array,
  weight: number,
): void {
  const { rows, cols } = tilingOf(shape)
  const byRow = (tensor.feedforward === true) === (tensor.layout === 'conv1d')
  if (values.length !== (byRow ? rows : cols)) {
    throw new TritswapError(
      'base',
      `Cannot merge ${tensor.name}: ${values.length} values for a matrix of ${shape.join('×')}`,
    )
  }
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++) out[row * cols + col] *= 1 + weight * values[byRow ? row : col]
  }
}
