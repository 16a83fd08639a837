import { tilingOf, weightsOf } from '../../format/index.ts'
import type { Batch } from '../batch.ts'
import type { Gpu } from '../device.ts'
import type { ElementPlacement } from '../job.ts'
import { type Kernel, targetKernels } from '../kernel.ts'
import { BUFFER_ALIGNMENT, createBuffers } from '../memory.ts'
import type { TargetDtype } from '../target.ts'
import { dequantizeInto, type OwnForm } from '../weights/own_forms.ts'
import type { BufferPlacement } from '../weights/placements.ts'
import type { WeightStore } from '../weights/weight_store.ts'

/** The weights of one tensor as the base has them, in the order in which they lie in the placement that they come from. */
interface Copy {
  buffer: GPUBuffer
  from: BufferPlacement
  shape: readonly number[]
  /** As the binary16 that they were made from. */
  half: boolean
  /** Column by column. */
  swapped: boolean
}

type CopyKernels = Record<'save' | 'expand' | 'dequantize', Record<TargetDtype, Kernel>>

/**
 * What the weights of tensors that are changed as a whole are made anew from. A tensor that came in blocks has its own form in
 * VRAM; of any other one there is a copy, one at most, from the switch that first changes it to the one that no longer does.
 */
export class BaseCopies {
  readonly #gpu: Gpu
  readonly #weights: WeightStore
  readonly #kernels: CopyKernels
  /** By tensor of the container. */
  readonly #copies = new Map<string, Copy>()

  static async create(gpu: Gpu, weights: WeightStore): Promise<BaseCopies> {
    const kernels = await targetKernels(gpu, ['save', 'expand', 'dequantize'], weights.dtypes)
    return new BaseCopies(gpu, weights, kernels)
  }

  private constructor(gpu: Gpu, weights: WeightStore, kernels: CopyKernels) {
    this.#gpu = gpu
    this.#weights = weights
    this.#kernels = kernels
  }

  /** VRAM of the copies; own forms belong to the weight store. */
  get bytes(): number {
    return [...this.#copies.values()].reduce((sum, { buffer }) => sum + buffer.size, 0)
  }

  /** The blocks that a tensor came as. */
  ownFormOf({ tensor }: BufferPlacement): OwnForm | undefined {
    return this.#weights.ownFormOf(tensor)
  }

  /** Whether the weights of a placement can be made anew, whatever is on them. */
  has({ tensor }: BufferPlacement): boolean {
    return this.#copies.has(tensor) || this.#weights.ownFormOf(tensor) !== undefined
  }

  /**
   * Makes room for copies of the tensors that have nothing else to be made from. They are taken once {@link NewCopies.record} has
   * run, and {@link NewCopies.keep} was called.
   * @throws {TritswapError} `memory`
   */
  async reserve(placements: readonly BufferPlacement[]): Promise<NewCopies> {
    const wanted = new Map<string, BufferPlacement>()
    for (const placement of placements) {
      const known = wanted.get(placement.tensor)
      // The wider type has all bits of a tensor that came as binary32.
      if (!this.has(placement) && (known === undefined || placement.dtype === 'float32'))
        wanted.set(placement.tensor, placement)
    }
    const described = Array.from(wanted.values(), (from) => {
      const { shape, isHalf } = this.#weights.storedAs(from.tensor)
      const half = from.dtype === 'float16' || isHalf
      return { from, shape, half, swapped: from.rowStride < from.colStride }
    })
    const sizes = described.map(({ shape, half }) => {
      const bytes = weightsOf(shape) * (half ? 2 : 4)
      return Math.ceil(bytes / BUFFER_ALIGNMENT) * BUFFER_ALIGNMENT
    })
    const buffers = await createBuffers(this.#gpu, 'a copy of the base', sizes)
    const copies = described.map((copy, i): Copy => ({ ...copy, buffer: buffers[i] }))
    return {
      record: (batch) => {
        for (const copy of copies) this.#save(batch, copy)
      },
      keep: () => {
        for (const copy of copies) this.#copies.set(copy.from.tensor, copy)
      },
      destroy: () => {
        for (const { buffer } of copies) buffer.destroy()
      },
    }
  }

  /** Records that the weights of a placement are made anew. */
  recordBase(batch: Batch, placement: BufferPlacement): void {
    const own = this.#weights.ownFormOf(placement.tensor)
    if (own !== undefined) {
      dequantizeInto(batch, this.#kernels.dequantize[placement.dtype], own, placement)
      return
    }
    const { buffer, shape, half, swapped } = this.#copies.get(placement.tensor)!
    const weights = weightsOf(shape)
    const words = Math.ceil(weights / (half ? 2 : 1))
    batch.dispatch(
      this.#kernels.expand[placement.dtype],
      { weights: { buffer: placement.buffer }, source: { buffer } },
      {
        placement: orderedPlacement(shape, placement, swapped),
        word: 0,
        words,
        first: 0,
        end: weights,
        half: half ? 1 : 0,
      },
      words,
      weights,
    )
  }

  /** Frees the copies of tensors that are not among these. */
  retain(tensors: ReadonlySet<string>): void {
    for (const [tensor, { buffer }] of this.#copies) {
      if (tensors.has(tensor)) continue
      buffer.destroy()
      this.#copies.delete(tensor)
    }
  }

  destroy(): void {
    this.retain(new Set())
  }

  #save(batch: Batch, { buffer, from, shape, half, swapped }: Copy): void {
    const weights = weightsOf(shape)
    batch.dispatch(
      this.#kernels.save[from.dtype],
      { weights: { buffer: from.buffer }, saved: { buffer } },
      { placement: orderedPlacement(shape, from, swapped), weights, half: half ? 1 : 0 },
      Math.ceil(weights / (half ? 2 : 1)),
      weights,
    )
  }
}

/** Copies that are on their way. */
export interface NewCopies {
  /** Records that they are taken; their tensors are as the base has them then. */
  record(batch: Batch): void
  /** The batch has been submitted. */
  keep(): void
  /** The batch has not. */
  destroy(): void
}

/** `Placement` of shaders/shared/placement.wgsl, row by row or column by column. */
export function orderedPlacement(
  shape: readonly number[],
  { offset, rowStride, colStride }: ElementPlacement,
  swapped: boolean,
) {
  const { rows, cols } = tilingOf(shape)
  return swapped
    ? { cols: rows, offset, row_stride: colStride, col_stride: rowStride }
    : { cols, offset, row_stride: rowStride, col_stride: colStride }
}
