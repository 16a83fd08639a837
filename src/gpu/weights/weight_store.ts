import { TritswapError } from '../../errors.ts'
import type { HoistedInput, Placement } from '../../format/bindings.ts'
import {
  type BlocksComponent,
  type BlocksTensor,
  blocksLayout,
  ELEMENT_BYTES,
  sketchPositions,
  type TritTable,
  type TritTensor,
  tilingOf,
  weightsOf,
} from '../../format/index.ts'
import { SKETCH_VALUES } from '../../format/table.ts'
import { Batch, readBuffer } from '../batch.ts'
import type { Gpu } from '../device.ts'
import { type Bindings, type Kernel, kernelOf, type TargetDtype, targetKernels } from '../kernel.ts'
import { createBuffers } from '../memory.ts'

/** A graph input as a session takes it: a tensor over a buffer of ours. */
export interface WeightFeed {
  name: string
  buffer: GPUBuffer
  dtype: HoistedInput['dtype']
  dims: readonly number[]
}

/** One place of a checkpoint tensor in the store. */
export interface BufferPlacement extends Placement {
  input: string
  dtype: TargetDtype
  buffer: GPUBuffer
}

/** Where one component of a quantized tensor lies, as it came. */
export interface QuantizedPlacement {
  input: string
  component: BlocksComponent
  buffer: GPUBuffer
  /** Bytes; a multiple of 4. */
  offset: number
}

/** The section of a quantized tensor on its way: it takes all of it to make a weight. */
interface PendingSection {
  buffer: GPUBuffer
  missing: number
}

/** onnxruntime-web binds buffers in multiples of this. */
const BUFFER_ALIGNMENT = 16
/** Payload bytes that go through the staging buffer at once. */
const SLICE_BYTES = 4 << 20
/** Payload bytes that may be on the queue before `write` waits: bounds what the browser copies aside. */
const MAX_BYTES_IN_FLIGHT = 32 << 20
const CHECKSUM_INVOCATIONS = 65_536

interface StoreKernels {
  expand: Record<TargetDtype, Kernel>
  gather: Record<TargetDtype, Kernel>
  dequantize: Record<TargetDtype, Kernel>
  gatherBlocks: Kernel
  checksum: Kernel
}

/** The base's weights: one GPUBuffer for each graph input, filled from the payload of a base container. */
export class WeightStore {
  readonly #gpu: Gpu
  readonly #kernels: StoreKernels
  readonly #feeds: readonly WeightFeed[]
  readonly #tensors: readonly TritTensor[]
  readonly #byName: ReadonlyMap<string, TritTensor>
  /** By name: where the bytes of a tensor go. */
  readonly #places: ReadonlyMap<string, readonly BufferPlacement[]>
  /** By target: where a change of it goes. The two differ where a tied pair is quantized on one side only. */
  readonly #placesOfTarget: ReadonlyMap<string, readonly BufferPlacement[]>
  /** By name: where the components of a quantized tensor go as they are. */
  readonly #kept: ReadonlyMap<string, readonly QuantizedPlacement[]>
  readonly #keptTargets: ReadonlySet<string>
  readonly #pending = new Map<string, PendingSection>()
  readonly #staging: GPUBuffer
  #bytesInFlight = 0

  /**
   * @param options.inputs - union over all graphs that share the weights, each name once
   * @param options.table - of the base container
   * @throws {TritswapError} `mapping` for a part whose tensor is missing, `format` for parts that leave their
   * buffer, `memory` for buffers that this GPU cannot hold or bind
   */
  static async create(options: {
    gpu: Gpu
    inputs: readonly HoistedInput[]
    table: TritTable
  }): Promise<WeightStore> {
    const { gpu, inputs, table } = options
    const byName = new Map(table.tensors.map((tensor) => [tensor.name, tensor]))
    for (const input of inputs) checkParts(input, byName)
    const [targets, gatherBlocks, checksum] = await Promise.all([
      targetKernels(gpu, ['expand', 'gather', 'dequantize']),
      kernelOf(gpu, 'gather_blocks'),
      kernelOf(gpu, 'checksum'),
    ])
    const sizes = inputs.map((input) => Math.ceil(bytesOf(input) / BUFFER_ALIGNMENT) * BUFFER_ALIGNMENT)
    const [staging, ...buffers] = await createBuffers(gpu, 'the base weights', [SLICE_BYTES, ...sizes])
    const kernels = { ...targets, gatherBlocks, checksum }
    return new WeightStore(gpu, kernels, inputs, buffers, staging, table.tensors, byName)
  }

  private constructor(
    gpu: Gpu,
    kernels: StoreKernels,
    inputs: readonly HoistedInput[],
    buffers: readonly GPUBuffer[],
    staging: GPUBuffer,
    tensors: readonly TritTensor[],
    byName: ReadonlyMap<string, TritTensor>,
  ) {
    this.#gpu = gpu
    this.#kernels = kernels
    this.#staging = staging
    this.#tensors = tensors
    this.#byName = byName
    this.#feeds = inputs.map(({ name, dtype, dims }, i) => ({ name, dtype, dims, buffer: buffers[i] }))
    const places = new Map<string, BufferPlacement[]>()
    const placesOfTarget = new Map<string, BufferPlacement[]>()
    const kept = new Map<string, QuantizedPlacement[]>()
    const keptTargets = new Set<string>()
    for (const [i, { name, dtype, raw, parts }] of inputs.entries()) {
      for (const part of parts) {
        const { target } = byName.get(part.tensor)!
        if (raw !== undefined) {
          const offset = part.offset * ELEMENT_BYTES[dtype]
          const place = { input: name, component: raw, buffer: buffers[i], offset }
          kept.set(part.tensor, [...(kept.get(part.tensor) ?? []), place])
          keptTargets.add(target)
          continue
        }
        const placed = { ...part, input: name, dtype: dtype as TargetDtype, buffer: buffers[i] }
        places.set(part.tensor, [...(places.get(part.tensor) ?? []), placed])
        placesOfTarget.set(target, [...(placesOfTarget.get(target) ?? []), placed])
      }
    }
    this.#places = places
    this.#placesOfTarget = placesOfTarget
    this.#kept = kept
    this.#keptTargets = keptTargets
  }

  /** VRAM of all weights. */
  get bytes(): number {
    return this.#feeds.reduce((sum, { buffer }) => sum + buffer.size, 0)
  }

  feeds(): WeightFeed[] {
    return [...this.#feeds]
  }

  has(tensor: string): boolean {
    return this.#placesOfTarget.has(tensor) && !this.isQuantized(tensor)
  }

  /** Whether weights of a target are quantized in VRAM too, in one of its places at least: no merge can reach those. */
  isQuantized(target: string): boolean {
    return this.#keptTargets.has(target)
  }

  /** Places of the components of a quantized tensor; none where its values are floats in VRAM. */
  quantizedPlacementsOf(tensor: string): readonly QuantizedPlacement[] {
    return this.#kept.get(tensor) ?? []
  }

  /** @throws {TritswapError} `mapping` for a tensor that feeds no input, or whose weights are quantized in VRAM */
  placementsOf(tensor: string): readonly BufferPlacement[] {
    if (this.isQuantized(tensor)) {
      throw new TritswapError(
        'mapping',
        `Cannot change ${tensor} in VRAM: its weights are quantized there; open the base with quantized: 'float'`,
        { fields: { tensor, kept: true } },
      )
    }
    const places = this.#placesOfTarget.get(tensor)
    if (places !== undefined) return places
    throw new TritswapError(
      'mapping',
      `Cannot find ${tensor} in VRAM: it feeds no input of the base's graphs`,
      {
        fields: { tensor },
      },
    )
  }

  /** Whether it is a tensor of the container. */
  knows(tensor: string): boolean {
    return this.#byName.has(tensor)
  }

  /** Places of a target that hold floats, whatever others hold. */
  floatPlacementsOf(target: string): readonly BufferPlacement[] {
    return this.#placesOfTarget.get(target) ?? []
  }

  /** Shape in the checkpoint. @throws {TritswapError} `mapping` */
  shapeOf(tensor: string): readonly number[] {
    const found = this.#byName.get(tensor)
    if (found === undefined || !(this.#placesOfTarget.has(tensor) || this.isQuantized(tensor)))
      this.placementsOf(tensor)
    return found!.shape
  }

  /**
   * Brings verified payload bytes, in any order, each once, to every place of the tensors that they hold: dense ones
   * are expanded, quantized ones copied or, once a section is complete, dequantized. Offset and length are multiples
   * of 4. The work is on the queue when the promise resolves, and more may come.
   * @throws {TritswapError} `memory` for a quantized section that cannot be held
   */
  async write(payloadOffset: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    await this.#openSections(payloadOffset, payloadOffset + bytes.length)
    for (let from = 0; from < bytes.length; from += SLICE_BYTES) {
      this.#writeSlice(payloadOffset + from, bytes.subarray(from, from + SLICE_BYTES))
    }
    this.#bytesInFlight += bytes.length
    if (this.#bytesInFlight < MAX_BYTES_IN_FLIGHT) return
    this.#bytesInFlight = 0
    await this.#gpu.device.queue.onSubmittedWorkDone()
  }

  /** Makes room for quantized tensors of which these are the first bytes. */
  async #openSections(start: number, end: number): Promise<void> {
    const fresh = this.#tensorsIn(start, end).filter(
      ({ name, codec }) => codec === 'blocks' && this.#places.has(name) && !this.#pending.has(name),
    )
    const sizes = fresh.map(({ bytes }) => bytes)
    const buffers = await createBuffers(this.#gpu, 'quantized weights', sizes)
    for (const [i, { name, bytes }] of fresh.entries()) {
      this.#pending.set(name, { buffer: buffers[i], missing: bytes })
    }
  }

  #writeSlice(start: number, bytes: Uint8Array<ArrayBuffer>): void {
    const end = start + bytes.length
    // Queue operations run in order, so one staging buffer serves every slice.
    this.#gpu.device.queue.writeBuffer(this.#staging, 0, bytes)
    const batch = new Batch(this.#gpu)
    const whole: PendingSection[] = []
    for (const tensor of this.#tensorsIn(start, end)) {
      const from = Math.max(start, tensor.offset)
      const to = Math.min(end, tensor.offset + tensor.bytes)
      if (tensor.codec !== 'blocks') {
        this.#expand(batch, tensor, from - start, from - tensor.offset, to - from)
        continue
      }
      this.#keep(batch, tensor, start, from, to)
      const section = this.#pending.get(tensor.name)
      if (section === undefined) continue
      batch.copy(this.#staging, from - start, section.buffer, from - tensor.offset, to - from)
      section.missing -= to - from
      if (section.missing > 0) continue
      this.#dequantize(batch, tensor, section.buffer)
      this.#pending.delete(tensor.name)
      whole.push(section)
    }
    batch.submit()
    for (const { buffer } of whole) buffer.destroy()
  }

  /** Bytes `[at, at + bytes)` of the staging buffer, which start at byte `first` of a dense tensor, to its places. */
  #expand(batch: Batch, tensor: TritTensor, at: number, first: number, bytes: number): void {
    const half = tensor.codec === 'dense' && tensor.dtype === 'f16'
    for (const place of this.#places.get(tensor.name) ?? []) {
      batch.dispatch(
        this.#kernels.expand[place.dtype],
        { weights: { buffer: place.buffer }, source: { buffer: this.#staging } },
        {
          place: placementParams(tensor.shape, place),
          word: at / 4,
          words: bytes / 4,
          first: (first / 4) * (half ? 2 : 1),
          end: weightsOf(tensor.shape),
          half: half ? 1 : 0,
        },
        bytes / 4,
      )
    }
  }

  /** Payload bytes `[from, to)` of a quantized tensor, in a staging buffer that starts at `start`, as they are. */
  #keep(batch: Batch, tensor: BlocksTensor, start: number, from: number, to: number): void {
    const { components } = blocksLayout(tensor.shape, tensor)
    for (const { component, buffer, offset } of this.quantizedPlacementsOf(tensor.name)) {
      const layout = components[component]!
      const first = tensor.offset + layout.offset
      const begin = Math.max(from, first)
      const bytes = Math.min(to, first + Math.ceil(layout.bytes / 4) * 4) - begin
      if (bytes > 0) batch.copy(this.#staging, begin - start, buffer, offset + begin - first, bytes)
    }
  }

  /** A whole section to every place of its tensor. */
  #dequantize(batch: Batch, tensor: BlocksTensor, section: GPUBuffer): void {
    const { rows, cols, perRow } = blocksLayout(tensor.shape, tensor)
    const words = (rows * perRow * tensor.blockSize * tensor.bits) / 32
    const parts = { quantized: { buffer: section }, scales: { buffer: section }, zeros: { buffer: section } }
    for (const { buffer, dtype, offset, rowStride, colStride } of this.#places.get(tensor.name) ?? []) {
      const [down, right] = tensor.transposed ? [colStride, rowStride] : [rowStride, colStride]
      batch.dispatch(
        this.#kernels.dequantize[dtype],
        { weights: { buffer }, ...parts },
        {
          place: { cols, offset, row_stride: down, col_stride: right },
          blocks: blocksParams(tensor),
        },
        words,
        rows * cols,
      )
    }
  }

  /** Tensors with bytes in `[start, end)` of the payload. */
  #tensorsIn(start: number, end: number): TritTensor[] {
    const tensors: TritTensor[] = []
    for (let i = this.#firstAfter(start); i < this.#tensors.length && this.#tensors[i].offset < end; i++)
      tensors.push(this.#tensors[i])
    return tensors
  }

  /** Index of the first tensor that ends after a payload offset. */
  #firstAfter(offset: number): number {
    let from = 0
    let to = this.#tensors.length
    while (from < to) {
      const middle = (from + to) >>> 1
      if (this.#tensors[middle].offset + this.#tensors[middle].bytes <= offset) from = middle + 1
      else to = middle
    }
    return from
  }

  /**
   * The weights at the sketch positions of each tensor as they are in VRAM now: 8 values a tensor, in the order given.
   * @param seeds - the names that the positions follow from, where somebody else calls the tensors differently
   * @throws {TritswapError} `mapping`
   */
  async sketchValues(
    tensors: readonly string[],
    seeds: readonly string[] = tensors,
  ): Promise<Float32Array<ArrayBuffer>> {
    if (tensors.length === 0) return new Float32Array()
    const size = tensors.length * SKETCH_VALUES * 4
    const [values] = await createBuffers(this.#gpu, 'sketch values', [size])
    const batch = new Batch(this.#gpu)
    for (const [i, name] of tensors.entries()) {
      const [place] = this.#places.get(name) ?? []
      const shape = this.#byName.get(name)?.shape ?? this.shapeOf(name)
      const { cols } = tilingOf(shape)
      const positions = sketchPositions(seeds[i], weightsOf(shape)).map((flat) => ({
        row: Math.floor(flat / cols),
        col: flat % cols,
      }))
      const first = i * SKETCH_VALUES
      if (place === undefined) this.#gatherQuantized(batch, name, positions, values, first)
      else {
        const elements = positions.map(
          ({ row, col }) => place.offset + row * place.rowStride + col * place.colStride,
        )
        batch.dispatch(
          this.#kernels.gather[place.dtype],
          { weights: { buffer: place.buffer }, values: { buffer: values } },
          { elements, first },
          SKETCH_VALUES,
        )
      }
    }
    batch.submit()
    const read = await readBuffer(this.#gpu, values, 0, size)
    values.destroy()
    return new Float32Array(read)
  }

  #gatherQuantized(
    batch: Batch,
    name: string,
    positions: readonly { row: number; col: number }[],
    values: GPUBuffer,
    first: number,
  ): void {
    const tensor = this.#byName.get(name) as BlocksTensor
    const kept = new Map(this.quantizedPlacementsOf(name).map((place) => [place.component, place]))
    const weights = kept.get('weights')
    const scales = kept.get('scales')
    const zeros = kept.get('zeroPoints') ?? scales
    if (weights === undefined || scales === undefined || zeros === undefined) {
      // Never without a hand-made binding table: the graph needs them all.
      throw new TritswapError('mapping', `Cannot read ${name}: its quantized weights are not all in VRAM`, {
        fields: { tensor: name },
      })
    }
    const bindings: Bindings = {
      quantized: { buffer: weights.buffer },
      scales: { buffer: scales.buffer },
      zeros: { buffer: zeros.buffer },
      values: { buffer: values },
    }
    const blocks = {
      ...blocksParams(tensor),
      quantized_at: weights.offset / 4,
      scales_at: scales.offset / 4,
      zeros_at: zeros.offset / 4,
    }
    const [down, right] = [positions.map(({ row }) => row), positions.map(({ col }) => col)]
    const [rows, cols] = tensor.transposed ? [right, down] : [down, right]
    batch.dispatch(this.#kernels.gatherBlocks, bindings, { blocks, rows, cols, first }, SKETCH_VALUES)
  }

  /** 16 hex digits over all weights and their order: any change of one word changes it. */
  async checksum(): Promise<string> {
    const [sums] = await createBuffers(this.#gpu, 'a checksum', [BUFFER_ALIGNMENT])
    const batch = new Batch(this.#gpu)
    for (const [seed, { buffer }] of this.#feeds.entries()) {
      const words = buffer.size / 4
      batch.dispatch(
        this.#kernels.checksum,
        { words: { buffer }, sums: { buffer: sums } },
        { words, seed },
        Math.min(words, CHECKSUM_INVOCATIONS),
        words,
      )
    }
    batch.submit()
    const read = new Uint32Array(await readBuffer(this.#gpu, sums, 0, 8))
    sums.destroy()
    return Array.from(read, (sum) => sum.toString(16).padStart(8, '0')).join('')
  }

  /** The bytes of one input without padding. @throws {TritswapError} `mapping` for an unknown name */
  async read(input: string): Promise<ArrayBuffer> {
    const feed = this.#feeds.find(({ name }) => name === input)
    if (feed === undefined) {
      throw new TritswapError('mapping', `Cannot read ${input}: the store has no such input`, {
        fields: { input },
      })
    }
    return (await readBuffer(this.#gpu, feed.buffer, 0, feed.buffer.size)).slice(0, bytesOf(feed))
  }

  destroy(): void {
    this.#staging.destroy()
    for (const { buffer } of this.#pending.values()) buffer.destroy()
    for (const { buffer } of this.#feeds) buffer.destroy()
  }
}

/** `Place` of shaders/shared/place.wgsl. */
export function placementParams(shape: readonly number[], { offset, rowStride, colStride }: Placement) {
  return { cols: tilingOf(shape).cols, offset, row_stride: rowStride, col_stride: colStride }
}

/** `Blocks` of shaders/shared/blocks.wgsl for a section in one buffer. */
function blocksParams(tensor: BlocksTensor) {
  const { rows, cols, components } = blocksLayout(tensor.shape, tensor)
  const { bits, blockSize, dtype, zeroPoints } = tensor
  return {
    rows,
    cols,
    bits,
    block_size: blockSize,
    half: dtype === 'f16' ? 1 : 0,
    zero_points: zeroPoints === undefined ? 0 : zeroPoints === 'packed' ? 1 : 2,
    quantized_at: components.weights.offset / 4,
    scales_at: components.scales.offset / 4,
    zeros_at: (components.zeroPoints?.offset ?? 0) / 4,
  }
}

function bytesOf({ dims, dtype }: Pick<HoistedInput, 'dims' | 'dtype'>): number {
  return weightsOf(dims) * ELEMENT_BYTES[dtype]
}

/** Bindings come from a file: no element of a part may lie outside its buffer. */
function checkParts(
  { name, dims, dtype, raw, parts }: HoistedInput,
  tensors: ReadonlyMap<string, TritTensor>,
): void {
  const elements = weightsOf(dims)
  for (const { tensor, offset, rowStride, colStride } of parts) {
    const found = tensors.get(tensor)
    if (found === undefined) {
      throw new TritswapError(
        'mapping',
        `Cannot feed ${name}: its tensor ${tensor} is not in the base container`,
        {
          fields: { input: name, tensor },
        },
      )
    }
    const component = raw && found.codec === 'blocks' && blocksLayout(found.shape, found).components[raw]
    if (raw ? !component || component.elementBytes !== ELEMENT_BYTES[dtype] : dtype === 'uint8') {
      throw new TritswapError(
        'format',
        `Cannot feed ${name}: ${tensor} has no ${raw ?? 'values'} of ${dtype}`,
        {
          fields: { input: name, tensor, raw, dtype },
        },
      )
    }
    const { rows, cols } = component
      ? { rows: component.bytes / component.elementBytes / component.rowLength, cols: component.rowLength }
      : tilingOf(found.shape)
    const last = offset + (rows - 1) * rowStride + (cols - 1) * colStride
    const whole = [offset, rowStride, colStride].every((value) => Number.isInteger(value) && value >= 0)
    if (!whole || last >= elements) {
      throw new TritswapError(
        'format',
        `Cannot feed ${name}: ${tensor} would reach element ${last} of ${elements}`,
        {
          fields: { input: name, tensor, last, elements },
        },
      )
    }
  }
}
