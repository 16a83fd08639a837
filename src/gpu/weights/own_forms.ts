import { type NBitsCode, nbitsLayout } from '../../format/codecs/nbits_decode.ts'
import type { Batch } from '../batch.ts'
import type { Gpu } from '../device.ts'
import type { Kernel } from '../kernel.ts'
import { createBuffers, largestBuffer } from '../memory.ts'
import { nbitsParams } from './params.ts'
import type { BufferPlacement } from './placements.ts'

/** The section of a quantized tensor in VRAM: what the weights can be made anew from, with the bits that they had at load. */
export interface OwnForm {
  code: NBitsCode
  shape: readonly number[]
  buffer: GPUBuffer
  /** Bytes; a multiple of 4. */
  offset: number
  bytes: number
}

/** A quantized tensor whose values go into float buffers. */
interface QuantizedTensor {
  name: string
  shape: readonly number[]
  code: NBitsCode
  bytes: number
}

/**
 * The sections of quantized tensors as they came, in few buffers. They are kept from the load on: a third of f16 weights at
 * most, and neither the network nor a pass over the weights is needed once an expert changes whole tensors.
 */
export class OwnForms {
  readonly #forms: ReadonlyMap<string, OwnForm>
  readonly #buffers: readonly GPUBuffer[]

  /** @throws {TritswapError} `memory` */
  static async create(gpu: Gpu, tensors: readonly QuantizedTensor[]): Promise<OwnForms> {
    const limit = largestBuffer(gpu)
    const sizes: number[] = []
    const placed = tensors.map((tensor) => {
      if (sizes.length === 0 || sizes[sizes.length - 1] + tensor.bytes > limit) sizes.push(0)
      const buffer = sizes.length - 1
      const offset = sizes[buffer]
      sizes[buffer] += tensor.bytes
      return { ...tensor, buffer, offset }
    })
    const buffers = await createBuffers(gpu, 'the quantized weights', sizes)
    const forms = placed.map(({ name, buffer, ...form }): [string, OwnForm] => [
      name,
      { ...form, buffer: buffers[buffer] },
    ])
    return new OwnForms(new Map(forms), buffers)
  }

  private constructor(forms: ReadonlyMap<string, OwnForm>, buffers: readonly GPUBuffer[]) {
    this.#forms = forms
    this.#buffers = buffers
  }

  get bytes(): number {
    return this.#buffers.reduce((sum, { size }) => sum + size, 0)
  }

  /** Undefined for a tensor that did not come in blocks, or has no float weights in VRAM. */
  of(tensor: string): OwnForm | undefined {
    return this.#forms.get(tensor)
  }

  destroy(): void {
    for (const buffer of this.#buffers) buffer.destroy()
  }
}

/** Records that the weights of a placement are made from the tensor's own form. @param kernel - `dequantize` */
export function dequantizeInto(
  batch: Batch,
  kernel: Kernel,
  form: OwnForm,
  placement: BufferPlacement,
): void {
  const { code, shape, offset } = form
  const { rows, cols, perRow } = nbitsLayout(shape, code)
  const section = { buffer: form.buffer }
  const { buffer, offset: first, rowStride, colStride } = placement
  // The kernel walks the quantized matrix, whose rows are the columns of a transposed tensor.
  const [rowStep, colStep] = code.transposed ? [colStride, rowStride] : [rowStride, colStride]
  batch.dispatch(
    kernel,
    { weights: { buffer }, quantized: section, scales: section, zeros: section },
    {
      placement: { cols, offset: first, row_stride: rowStep, col_stride: colStep },
      nbits: nbitsParams(shape, code, offset / 4),
    },
    rows * perRow,
    rows * cols,
  )
}
