import { TritswapError } from '../../errors.ts'
import type { HoistedInput } from '../../format/bindings.ts'
import { formOf } from '../../format/codecs/index.ts'
import { type TritTable, type TritTensor, weightsOf } from '../../format/index.ts'
import { readBuffer } from '../batch.ts'
import { checked } from '../checked.ts'
import type { Gpu } from '../device.ts'
import { BUFFER_ALIGNMENT, createBuffers } from '../memory.ts'
import type { TargetDtype } from '../target.ts'
import { checksumOf } from './checksum.ts'
import { type OwnForm, OwnForms } from './own_forms.ts'
import { PayloadWriter } from './payload_writer.ts'
import {
  type BufferPlacement,
  bytesOf,
  checkInput,
  placementsIn,
  type WeightPlacements,
} from './placements.ts'
import { readSketches } from './sketches.ts'

/** A graph input as a session takes it: a tensor in a buffer of the store. */
export interface WeightFeed {
  name: string
  buffer: GPUBuffer
  dtype: HoistedInput['dtype']
  dims: readonly number[]
}

/** The base's weights: one GPUBuffer for each graph input, filled from the payload of a base container. */
export class WeightStore {
  readonly #gpu: Gpu
  readonly #feeds: readonly WeightFeed[]
  readonly #tensors: ReadonlyMap<string, TritTensor>
  readonly #placements: WeightPlacements
  readonly #forms: OwnForms
  readonly #writer: PayloadWriter

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
    const tensors = new Map(table.tensors.map((tensor) => [tensor.name, tensor]))
    for (const input of inputs) checkInput(input, tensors)
    const sizes = inputs.map((input) => Math.ceil(bytesOf(input) / BUFFER_ALIGNMENT) * BUFFER_ALIGNMENT)
    const buffers = await createBuffers(gpu, 'the base weights', sizes)
    const placements = placementsIn(inputs, buffers, tensors)
    let forms: OwnForms | undefined
    try {
      forms = await OwnForms.create(gpu, quantizedTensors(table.tensors, placements))
      const writer = await PayloadWriter.create(gpu, table.tensors, placements, forms)
      const feeds = inputs.map(({ name, dtype, dims }, i) => ({ name, dtype, dims, buffer: buffers[i] }))
      return new WeightStore(gpu, feeds, tensors, placements, forms, writer)
    } catch (error) {
      forms?.destroy()
      for (const buffer of buffers) buffer.destroy()
      throw error
    }
  }

  private constructor(
    gpu: Gpu,
    feeds: readonly WeightFeed[],
    tensors: ReadonlyMap<string, TritTensor>,
    placements: WeightPlacements,
    forms: OwnForms,
    writer: PayloadWriter,
  ) {
    this.#gpu = gpu
    this.#feeds = feeds
    this.#tensors = tensors
    this.#placements = placements
    this.#forms = forms
    this.#writer = writer
  }

  /** VRAM of all weights. */
  get bytes(): number {
    return this.#feeds.reduce((sum, { buffer }) => sum + buffer.size, 0)
  }

  /** VRAM of what quantized tensors came as, beside the weights that were made of it. */
  get ownFormBytes(): number {
    return this.#forms.bytes
  }

  /** What the weights of a tensor of the container can be made from again; undefined where they came as floats. */
  ownFormOf(tensor: string): OwnForm | undefined {
    return this.#forms.of(tensor)
  }

  /** VRAM that it takes to make the weights of a target anew, beside what is there: a copy of what came as floats. */
  copyBytesOf(target: string): number {
    const tensors = new Map(this.floatPlacementsOf(target).map((placement) => [placement.tensor, placement]))
    return Array.from(tensors.values(), ({ tensor, dtype }) => {
      if (this.ownFormOf(tensor) !== undefined) return 0
      const { shape, isHalf } = this.storedAs(tensor)
      return weightsOf(shape) * (isHalf || dtype === 'float16' ? 2 : 4)
    }).reduce((sum, bytes) => sum + bytes, 0)
  }

  /** Shape of a tensor of the container, and whether its values came as binary16. */
  storedAs(tensor: string): { shape: readonly number[]; isHalf: boolean } {
    const found = this.#tensors.get(tensor)!
    const form = formOf(found)
    return { shape: found.shape, isHalf: form.kind === 'dense' && form.dtype === 'f16' }
  }

  feeds(): WeightFeed[] {
    return [...this.#feeds]
  }

  /** Whether a merge can change the tensor. */
  has(tensor: string): boolean {
    return this.#placements.ofTarget.has(tensor) && !this.isQuantized(tensor)
  }

  /** Of the weights that are floats. */
  get dtypes(): ReadonlySet<TargetDtype> {
    return this.#placements.dtypes
  }

  /** Whether a target is quantized in VRAM, in at least one of its placements: a merge cannot change it. */
  isQuantized(target: string): boolean {
    return this.#placements.quantizedTargets.has(target)
  }

  /** Whether it is a tensor of the container. */
  knows(tensor: string): boolean {
    return this.#tensors.has(tensor)
  }

  /** Shape in the checkpoint. @throws {TritswapError} `mapping` for a tensor that feeds no input */
  shapeOf(tensor: string): readonly number[] {
    const found = this.#tensors.get(tensor)
    const feeds = this.#placements.ofTarget.has(tensor) || this.isQuantized(tensor)
    if (found === undefined || !feeds) throw feedsNothing(tensor)
    return found.shape
  }

  /** @throws {TritswapError} `mapping` for a tensor that feeds no input, or whose weights are quantized in VRAM */
  placementsOf(tensor: string): readonly BufferPlacement[] {
    if (this.isQuantized(tensor)) {
      throw new TritswapError(
        'mapping',
        `Cannot change ${tensor} in VRAM: its weights are quantized there; open the base with quantized: 'float'`,
        { fields: { tensor, quantized: true } },
      )
    }
    const placements = this.#placements.ofTarget.get(tensor)
    if (placements === undefined) throw feedsNothing(tensor)
    return placements
  }

  /** Float placements of a target; it may have quantized ones too. */
  floatPlacementsOf(target: string): readonly BufferPlacement[] {
    return this.#placements.ofTarget.get(target) ?? []
  }

  /** Where merges can change weights, with the shapes of the tensors there. */
  floatPlacements(): { placement: BufferPlacement; shape: readonly number[] }[] {
    return [...this.#placements.ofTarget.values()].flat().map((placement) => {
      const { shape } = this.#tensors.get(placement.tensor) as TritTensor
      return { placement, shape }
    })
  }

  /**
   * Brings verified payload bytes, in any order, each once, to every placement of the tensors that they belong to:
   * dense ones are expanded, quantized ones copied or, once a section is complete, dequantized. Offset and length are
   * multiples of 4. The work is on the queue when the promise resolves.
   * @throws {TritswapError} `memory`, `webgpu`, `device-lost`: some of the bytes are missing then
   */
  write(payloadOffset: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    return this.#writer.write(payloadOffset, bytes)
  }

  /** Writes bytes of one input as they are; offset and length are multiples of 4. @throws {TritswapError} as `write` */
  async writeInput(input: string, offset: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const { buffer } = this.#feed(input)
    const { queue } = this.#gpu.device
    await checked(this.#gpu, 'fill the base weights', () => queue.writeBuffer(buffer, offset, bytes))
  }

  /**
   * The weights at the sketch positions of each tensor as they are in VRAM now: 8 values a tensor, in the order given.
   * @param seeds - names that determine the positions, for a checkpoint that calls the tensors differently
   * @throws {TritswapError} `mapping`
   */
  async sketchValues(
    tensors: readonly string[],
    seeds: readonly string[] = tensors,
  ): Promise<Float32Array<ArrayBuffer>> {
    return readSketches(
      this.#gpu,
      tensors.map((name, i) => {
        const tensor = this.#tensors.get(name)
        const source = this.#placements.ofTensor.get(name)?.[0] ?? {
          form: tensor && formOf(tensor),
          placements: this.#placements.quantized.get(name) ?? [],
        }
        return { name, seed: seeds[i], shape: tensor?.shape ?? this.shapeOf(name), source }
      }),
    )
  }

  /** 16 hex digits over all weights and their order: any change of one word changes it. */
  checksum(): Promise<string> {
    return checksumOf(
      this.#gpu,
      this.#feeds.map(({ buffer }) => buffer),
    )
  }

  /** The bytes of one input without padding. @throws {TritswapError} `mapping` for an unknown name */
  async read(input: string): Promise<ArrayBuffer> {
    const feed = this.#feed(input)
    return (await readBuffer(this.#gpu, feed.buffer, 0, feed.buffer.size)).slice(0, bytesOf(feed))
  }

  #feed(input: string): WeightFeed {
    const feed = this.#feeds.find(({ name }) => name === input)
    if (feed !== undefined) return feed
    throw new TritswapError('mapping', `Cannot find ${input}: the store has no such input`, {
      fields: { input },
    })
  }

  destroy(): void {
    this.#writer.destroy()
    this.#forms.destroy()
    for (const { buffer } of this.#feeds) buffer.destroy()
  }
}

function quantizedTensors(tensors: readonly TritTensor[], { ofTensor }: WeightPlacements) {
  return tensors.flatMap((tensor) => {
    const form = formOf(tensor)
    const { name, shape, bytes } = tensor
    return form.kind === 'nbits' && ofTensor.has(name) ? [{ name, shape, bytes, code: form.code }] : []
  })
}

function feedsNothing(tensor: string): TritswapError {
  return new TritswapError(
    'mapping',
    `Cannot find ${tensor} in VRAM: it feeds no input of the base's graphs`,
    { fields: { tensor } },
  )
}
