import type { SectionForm } from '../../format/codecs/codec.ts'
import { decodeValues, formOf } from '../../format/codecs/index.ts'
import { type NBitsCode, nbitsLayout } from '../../format/codecs/nbits_decode.ts'
import { FLOAT_BYTES, type FloatDtype } from '../../format/dtype.ts'
import { type TritTensor, weightsOf } from '../../format/index.ts'
import { Batch } from '../batch.ts'
import { checked } from '../checked.ts'
import type { Gpu } from '../device.ts'
import { type Kernel, targetKernels } from '../kernel.ts'
import { createBuffers } from '../memory.ts'
import { OpaqueSections } from '../opaque_sections.ts'
import type { TargetDtype } from '../target.ts'
import { dequantizeInto, type OwnForms } from './own_forms.ts'
import { placementParams } from './params.ts'
import type { WeightPlacements } from './placements.ts'

/** Payload bytes that go through the staging buffer at once. */
const SLICE_BYTES = 4 << 20
/** Payload bytes on the queue before `write` waits: bounds what the browser holds as copies. */
const MAX_BYTES_IN_FLIGHT = 32 << 20

type WriterKernels = Record<'expand' | 'dequantize', Record<TargetDtype, Kernel>>

/** Brings the payload of a base container to the placements of its tensors. */
export class PayloadWriter {
  readonly #gpu: Gpu
  readonly #kernels: WriterKernels
  readonly #staging: GPUBuffer
  /** In the order of their offsets. */
  readonly #tensors: readonly TritTensor[]
  readonly #placements: WeightPlacements
  readonly #forms: OwnForms
  /** Bytes that sections of quantized tensors lack: they can only be dequantized as a whole. */
  readonly #missing = new Map<string, number>()
  readonly #opaque: OpaqueSections
  #bytesInFlight = 0

  /** @throws {TritswapError} `memory` */
  static async create(
    gpu: Gpu,
    tensors: readonly TritTensor[],
    placements: WeightPlacements,
    forms: OwnForms,
  ): Promise<PayloadWriter> {
    const kernels = await targetKernels(gpu, ['expand', 'dequantize'], placements.dtypes)
    const [staging] = await createBuffers(gpu, 'the base weights', [SLICE_BYTES])
    return new PayloadWriter(gpu, kernels, staging, tensors, placements, forms)
  }

  private constructor(
    gpu: Gpu,
    kernels: WriterKernels,
    staging: GPUBuffer,
    tensors: readonly TritTensor[],
    placements: WeightPlacements,
    forms: OwnForms,
  ) {
    this.#gpu = gpu
    this.#kernels = kernels
    this.#staging = staging
    this.#tensors = tensors
    this.#placements = placements
    this.#forms = forms
    this.#opaque = new OpaqueSections(
      tensors.filter((tensor) => isOpaque(formOf(tensor)) && placements.ofTensor.has(tensor.name)),
    )
  }

  /**
   * Writes verified payload bytes, in any order, each once. Offset and length are multiples of 4. The work is on the
   * queue when the promise resolves.
   * @throws {TritswapError} `memory`, `webgpu`, `device-lost`: some of the bytes are missing then; `format` for a section
   * that the CPU decodes and that contradicts the table
   */
  async write(payloadOffset: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    for (let from = 0; from < bytes.length; from += SLICE_BYTES) {
      await this.#writeSlice(payloadOffset + from, bytes.subarray(from, from + SLICE_BYTES))
    }
    for (const { tensor, section } of this.#opaque.take(payloadOffset, bytes))
      await this.#writeValues(tensor, decodeValues(tensor, section))
    this.#bytesInFlight += bytes.length
    if (this.#bytesInFlight < MAX_BYTES_IN_FLIGHT) return
    this.#bytesInFlight = 0
    // Only holds the network back: what the device does not do shows in the next call.
    await this.#gpu.device.queue.onSubmittedWorkDone().catch(() => {})
  }

  destroy(): void {
    this.#staging.destroy()
  }

  async #writeSlice(start: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    await checked(this.#gpu, 'fill the base weights', () => this.#submitSlice(start, bytes))
  }

  #submitSlice(start: number, bytes: Uint8Array<ArrayBuffer>): void {
    const end = start + bytes.length
    // Queue operations run in order, so one staging buffer serves every slice.
    this.#gpu.device.queue.writeBuffer(this.#staging, 0, bytes)
    const batch = new Batch(this.#gpu)
    for (const tensor of this.#tensorsIn(start, end)) {
      const from = Math.max(start, tensor.offset)
      const to = Math.min(end, tensor.offset + tensor.bytes)
      const form = formOf(tensor)
      if (form.kind === 'dense') {
        this.#expand(batch, tensor, form.dtype, from - start, from - tensor.offset, to - from)
        continue
      }
      if (form.kind !== 'nbits') continue
      const { code } = form
      this.#copyComponents(batch, tensor, code, start, from, to)
      const own = this.#forms.of(tensor.name)
      if (own === undefined) continue
      batch.copy(this.#staging, from - start, own.buffer, own.offset + from - tensor.offset, to - from)
      const missing = (this.#missing.get(tensor.name) ?? tensor.bytes) - (to - from)
      this.#missing.set(tensor.name, missing)
      if (missing > 0) continue
      for (const placement of this.#placements.ofTensor.get(tensor.name) ?? [])
        dequantizeInto(batch, this.#kernels.dequantize[placement.dtype], own, placement)
    }
    batch.submit()
  }

  /** The values of a tensor that the CPU has decoded. */
  async #writeValues(tensor: TritTensor, values: Float32Array<ArrayBuffer>): Promise<void> {
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
    for (let first = 0; first < bytes.length; first += SLICE_BYTES) {
      const slice = bytes.subarray(first, first + SLICE_BYTES)
      await checked(this.#gpu, 'fill the base weights', () => {
        this.#gpu.device.queue.writeBuffer(this.#staging, 0, slice)
        const batch = new Batch(this.#gpu)
        this.#expand(batch, tensor, 'f32', 0, first, slice.length)
        batch.submit()
      })
    }
  }

  /** Bytes `[at, at + bytes)` of the staging buffer, which start at byte `first` of a tensor's values. */
  #expand(
    batch: Batch,
    tensor: TritTensor,
    dtype: FloatDtype,
    at: number,
    first: number,
    bytes: number,
  ): void {
    for (const placement of this.#placements.ofTensor.get(tensor.name) ?? []) {
      batch.dispatch(
        this.#kernels.expand[placement.dtype],
        { weights: { buffer: placement.buffer }, source: { buffer: this.#staging } },
        {
          placement: placementParams(tensor.shape, placement),
          word: at / 4,
          words: bytes / 4,
          first: first / FLOAT_BYTES[dtype],
          end: weightsOf(tensor.shape),
          half: dtype === 'f16' ? 1 : 0,
        },
        bytes / 4,
      )
    }
  }

  /** Payload bytes `[from, to)` of a tensor that stays quantized, in a staging buffer that starts at `start`. */
  #copyComponents(
    batch: Batch,
    tensor: TritTensor,
    code: NBitsCode,
    start: number,
    from: number,
    to: number,
  ): void {
    const { components } = nbitsLayout(tensor.shape, code)
    for (const { component, buffer, offset } of this.#placements.quantized.get(tensor.name) ?? []) {
      const layout = components[component]!
      const first = tensor.offset + layout.offset
      const begin = Math.max(from, first)
      const bytes = Math.min(to, first + Math.ceil(layout.bytes / 4) * 4) - begin
      if (bytes > 0) batch.copy(this.#staging, begin - start, buffer, offset + begin - first, bytes)
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
}

function isOpaque({ kind }: SectionForm): boolean {
  return kind !== 'dense' && kind !== 'nbits'
}
