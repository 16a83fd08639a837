import { TritswapError } from '../errors.ts'
import type { HoistedInput, Placement } from '../format/bindings.ts'
import { sketchPositions, type TritTable, type TritTensor, tilingOf, weightsOf } from '../format/index.ts'
import { SKETCH_VALUES } from '../format/table.ts'
import { Batch, readBuffer } from './batch.ts'
import type { Gpu } from './device.ts'
import { type Kernel, kernelOf, type TargetDtype, targetKernels } from './kernel.ts'
import { createBuffers } from './memory.ts'

/** A graph input as a session takes it: a tensor over a buffer of ours. */
export interface WeightFeed {
  name: string
  buffer: GPUBuffer
  dtype: TargetDtype
  dims: readonly number[]
}

/** One place of a checkpoint tensor in the store. */
export interface Placed extends Placement {
  input: string
  dtype: TargetDtype
  buffer: GPUBuffer
}

/** 4-bit weights as MatMulNBits keeps them. */
export interface QuantizedWeights {
  /** [out, blocks of a row, blockSize / 2] bytes, low nibble first. */
  quantized: Uint8Array<ArrayBuffer>
  /** [out, blocks of a row], as f32 or as bits of f16. */
  scales: Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer>
  blockSize: number
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
  readonly #places: ReadonlyMap<string, readonly Placed[]>
  /** By target: where a change of it goes. The two differ where a tied pair is quantized on one side only. */
  readonly #placesOfTarget: ReadonlyMap<string, readonly Placed[]>
  readonly #staging: GPUBuffer
  #bytesInFlight = 0

  /**
   * @param options.inputs - union over all graphs that share the weights, each name once
   * @param options.table - of the base container; its tensors are dense
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
    const [targets, checksum] = await Promise.all([
      targetKernels(gpu, ['expand', 'gather', 'dequantize']),
      kernelOf(gpu, 'checksum'),
    ])
    const sizes = inputs.map((input) => Math.ceil(bytesOf(input) / BUFFER_ALIGNMENT) * BUFFER_ALIGNMENT)
    const [staging, ...buffers] = await createBuffers(gpu, 'the base weights', [SLICE_BYTES, ...sizes])
    return new WeightStore(gpu, { ...targets, checksum }, inputs, buffers, staging, table.tensors, byName)
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
    const places = new Map<string, Placed[]>()
    const placesOfTarget = new Map<string, Placed[]>()
    for (const [i, { name, dtype, parts }] of inputs.entries()) {
      for (const part of parts) {
        const placed = { ...part, input: name, dtype, buffer: buffers[i] }
        const { target } = byName.get(part.tensor)!
        places.set(part.tensor, [...(places.get(part.tensor) ?? []), placed])
        placesOfTarget.set(target, [...(placesOfTarget.get(target) ?? []), placed])
      }
    }
    this.#places = places
    this.#placesOfTarget = placesOfTarget
  }

  /** VRAM of all weights. */
  get bytes(): number {
    return this.#feeds.reduce((sum, { buffer }) => sum + buffer.size, 0)
  }

  feeds(): WeightFeed[] {
    return [...this.#feeds]
  }

  has(tensor: string): boolean {
    return this.#placesOfTarget.has(tensor)
  }

  /** @throws {TritswapError} `mapping` for a tensor that feeds no input */
  placementsOf(tensor: string): readonly Placed[] {
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

  /** Shape in the checkpoint. @throws {TritswapError} `mapping` */
  shapeOf(tensor: string): readonly number[] {
    this.placementsOf(tensor)
    return this.#byName.get(tensor)!.shape
  }

  /**
   * Expands verified payload bytes, in any order, into every place of the tensors that they hold. Offset and length
   * are multiples of 4. The work is on the queue when the call returns; the promise resolves when more may come.
   */
  async write(payloadOffset: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    for (let from = 0; from < bytes.length; from += SLICE_BYTES) {
      this.#writeSlice(payloadOffset + from, bytes.subarray(from, from + SLICE_BYTES))
    }
    this.#bytesInFlight += bytes.length
    if (this.#bytesInFlight < MAX_BYTES_IN_FLIGHT) return
    this.#bytesInFlight = 0
    await this.#gpu.device.queue.onSubmittedWorkDone()
  }

  #writeSlice(start: number, bytes: Uint8Array<ArrayBuffer>): void {
    const end = start + bytes.length
    // Queue operations run in order, so one staging buffer serves every slice.
    this.#gpu.device.queue.writeBuffer(this.#staging, 0, bytes)
    const batch = new Batch(this.#gpu)
    for (let i = this.#firstAfter(start); i < this.#tensors.length && this.#tensors[i].offset < end; i++) {
      const tensor = this.#tensors[i]
      const half = tensor.codec === 'dense' && tensor.dtype === 'f16'
      const from = Math.max(start, tensor.offset)
      const words = (Math.min(end, tensor.offset + tensor.bytes) - from) / 4
      for (const place of this.#places.get(tensor.name) ?? []) {
        batch.dispatch(
          this.#kernels.expand[place.dtype],
          { weights: { buffer: place.buffer }, source: { buffer: this.#staging } },
          {
            place: placeParams(tensor.shape, place),
            word: (from - start) / 4,
            words,
            first: ((from - tensor.offset) / 4) * (half ? 2 : 1),
            end: weightsOf(tensor.shape),
            half: half ? 1 : 0,
          },
          words,
        )
      }
    }
    batch.submit()
  }

  /**
   * Fills every place of a tensor from 4-bit weights of onnxruntime's MatMulNBits, symmetric: a weight is
   * (q − 8) × scale of its block.
   *
   * @throws {TritswapError} `mapping` for an unknown tensor, `input` for sizes that are not those of its shape
   */
  async writeQuantized(tensor: string, { quantized, scales, blockSize }: QuantizedWeights): Promise<void> {
    const places = this.placementsOf(tensor)
    const shape = this.shapeOf(tensor)
    const { rows, cols } = tilingOf(shape)
    const blocks = Math.ceil(cols / blockSize)
    const half = scales instanceof Uint16Array
    if (
      blockSize % 8 !== 0 ||
      quantized.length !== (rows * blocks * blockSize) / 2 ||
      scales.length !== rows * blocks
    ) {
      throw new TritswapError(
        'input',
        `Cannot dequantize ${tensor}: expected ${rows} × ${blocks} blocks of ${blockSize}, found ${quantized.length} bytes and ${scales.length} scales`,
        { fields: { tensor, rows, blocks, blockSize, bytes: quantized.length, scales: scales.length } },
      )
    }
    const sizes = [quantized.length, Math.ceil(scales.byteLength / 4) * 4]
    const [packed, factors] = await createBuffers(this.#gpu, 'quantized weights', sizes)
    this.#gpu.device.queue.writeBuffer(packed, 0, quantized)
    // Odd counts of binary16 end in half a word, which a copy cannot.
    const whole = new Uint8Array(sizes[1])
    whole.set(new Uint8Array(scales.buffer, scales.byteOffset, scales.byteLength))
    this.#gpu.device.queue.writeBuffer(factors, 0, whole)
    const rowWords = (blocks * blockSize) / 8
    const batch = new Batch(this.#gpu)
    for (const place of places) {
      batch.dispatch(
        this.#kernels.dequantize[place.dtype],
        { weights: { buffer: place.buffer }, quantized: { buffer: packed }, scales: { buffer: factors } },
        {
          place: placeParams(shape, place),
          rows,
          row_words: rowWords,
          block_words: blockSize / 8,
          half: half ? 1 : 0,
        },
        rows * rowWords,
        rows * cols,
      )
    }
    batch.submit()
    packed.destroy()
    factors.destroy()
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
      const [place] = this.placementsOf(name)
      const shape = this.shapeOf(name)
      const { cols } = tilingOf(shape)
      const elements = sketchPositions(seeds[i], weightsOf(shape)).map(
        (flat) => place.offset + Math.floor(flat / cols) * place.rowStride + (flat % cols) * place.colStride,
      )
      batch.dispatch(
        this.#kernels.gather[place.dtype],
        { weights: { buffer: place.buffer }, values: { buffer: values } },
        { elements, first: i * SKETCH_VALUES },
        SKETCH_VALUES,
      )
    }
    batch.submit()
    const read = await readBuffer(this.#gpu, values, 0, size)
    values.destroy()
    return new Float32Array(read)
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
    for (const { buffer } of this.#feeds) buffer.destroy()
  }
}

/** `Place` of shaders/shared/place.wgsl. */
export function placeParams(shape: readonly number[], { offset, rowStride, colStride }: Placement) {
  return { cols: tilingOf(shape).cols, offset, row_stride: rowStride, col_stride: colStride }
}

function bytesOf({ dims, dtype }: Pick<HoistedInput, 'dims' | 'dtype'>): number {
  return weightsOf(dims) * (dtype === 'float16' ? 2 : 4)
}

/** Bindings come from a file: no element of a part may lie outside its buffer. */
function checkParts({ name, dims, parts }: HoistedInput, tensors: ReadonlyMap<string, TritTensor>): void {
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
    const { rows, cols } = tilingOf(found.shape)
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
