import { TritswapError } from '../errors.ts'
import { type TritTensor, tilingOf, weightsOf } from '../format/index.ts'
import { Batch } from './batch.ts'
import type { Gpu } from './device.ts'
import type { ExpertStore, ResidentExpert } from './expert_store.ts'
import { jobParams, streamParams } from './job.ts'
import { type Kernel, kernelOf, type TargetDtype } from './kernel.ts'
import { createBuffers } from './memory.ts'

/** Code 2, which is MatMulNBits' zero for 2 bits, in all 16 fields of a word. */
const ZEROS = 0xaaaaaaaa
const FIELDS_PER_WORD = 16

/** A ternary delta as the B input of a MatMulNBits node with `bits = 2`. */
export interface SideWeights {
  tensor: TritTensor
  /** uint8 [out, blocks of a row, blockSize / 4]. */
  buffer: GPUBuffer
  dims: readonly [number, number, number]
  /** What a weight of one is worth: goes into the node's scalar input, times the expert's weight. */
  scale: number
}

/**
 * Unpacks resident experts into buffers that graphs are fed with, for the bindings that leave the base alone: `side`
 * and `input`. The buffers belong to the caller.
 */
export class Unpacker {
  readonly #gpu: Gpu
  readonly #experts: ExpertStore
  readonly #kernels: { fill: Kernel; side: Kernel; dense: Record<TargetDtype, Kernel> }

  static async create({ gpu, experts }: { gpu: Gpu; experts: ExpertStore }): Promise<Unpacker> {
    const [fill, side, float32, float16] = await Promise.all([
      kernelOf(gpu, 'fill'),
      kernelOf(gpu, 'side'),
      kernelOf(gpu, 'unpack', 'float32'),
      kernelOf(gpu, 'unpack', 'float16'),
    ])
    return new Unpacker(gpu, experts, { fill, side, dense: { float32, float16 } })
  }

  private constructor(
    gpu: Gpu,
    experts: ExpertStore,
    kernels: { fill: Kernel; side: Kernel; dense: Record<TargetDtype, Kernel> },
  ) {
    this.#gpu = gpu
    this.#experts = experts
    this.#kernels = kernels
  }

  /**
   * Every ternary matrix of an expert as 2-bit weights.
   * @param blockSize - of the MatMulNBits nodes: a power of two ≥ 16
   * @throws {TritswapError} `unsupported` for a dense tensor, `memory`
   */
  async side(expert: ResidentExpert, blockSize: number): Promise<SideWeights[]> {
    const { tensors } = expert.table
    for (const tensor of tensors) {
      if (tensor.codec === 'ternary') continue
      throw new TritswapError(
        'unsupported',
        `Cannot use ${tensor.name} beside the base: it is dense, and 2 bits hold ternary weights only`,
        {
          fields: { tensor: tensor.name },
        },
      )
    }
    const dims = tensors.map(({ shape }): [number, number, number] => {
      const { rows, cols } = tilingOf(shape)
      return [rows, Math.ceil(cols / blockSize), blockSize / 4]
    })
    const buffers = await createBuffers(
      this.#gpu,
      'side weights',
      dims.map((sizes) => Math.ceil(weightsOf(sizes) / 16) * 16),
    )
    const batch = new Batch(this.#gpu)
    for (const [i, tensor] of tensors.entries()) {
      const { blocks } = tilingOf(tensor.shape)
      this.#fill(batch, buffers[i], ZEROS)
      const rowStride = dims[i][1] * blockSize
      const job = jobParams(
        tensor.shape,
        { offset: 0, rowStride, colStride: 1 },
        [streamParams(tensor, expert.placeOf(i), 1)],
        0,
        0,
        blocks,
      )
      const bindings = { fields: { buffer: buffers[i] }, arena: { buffer: this.#experts.arena.buffer } }
      batch.dispatch(this.#kernels.side, bindings, job, blocks, weightsOf(dims[i]) * (FIELDS_PER_WORD / 4))
    }
    batch.submit()
    return tensors.map((tensor, i) => ({
      tensor,
      buffer: buffers[i],
      dims: dims[i],
      scale: tensor.codec === 'ternary' ? tensor.scale : 1,
    }))
  }

  /** The one scale tensor that all 2-bit weights of a dtype share: `count` ones. */
  async ones(count: number, dtype: TargetDtype): Promise<GPUBuffer> {
    const half = dtype === 'float16'
    const [buffer] = await createBuffers(this.#gpu, 'shared scales', [
      Math.ceil((count * (half ? 2 : 4)) / 16) * 16,
    ])
    const batch = new Batch(this.#gpu)
    this.#fill(batch, buffer, half ? 0x3c003c00 : 0x3f800000)
    batch.submit()
    return buffer
  }

  /** One tensor of an expert, times `weight`, as dense row-major values: LoRA factors and (IA)³ vectors as inputs. */
  async dense(expert: ResidentExpert, index: number, dtype: TargetDtype, weight = 1): Promise<GPUBuffer> {
    const tensor = expert.table.tensors[index]
    const { cols, blocks } = tilingOf(tensor.shape)
    const bytes = weightsOf(tensor.shape) * (dtype === 'float16' ? 2 : 4)
    const [buffer] = await createBuffers(this.#gpu, 'adapter inputs', [Math.ceil(bytes / 16) * 16])
    const strides = { offset: 0, rowStride: cols, colStride: 1 }
    const job = jobParams(
      tensor.shape,
      strides,
      [streamParams(tensor, expert.placeOf(index), weight)],
      0,
      0,
      blocks,
    )
    const batch = new Batch(this.#gpu)
    const bindings = { weights: { buffer }, arena: { buffer: this.#experts.arena.buffer } }
    batch.dispatch(this.#kernels.dense[dtype], bindings, job, blocks, weightsOf(tensor.shape))
    batch.submit()
    return buffer
  }

  #fill(batch: Batch, buffer: GPUBuffer, value: number): void {
    const words = buffer.size / 4
    batch.dispatch(
      this.#kernels.fill,
      { filled: { buffer } },
      { words, value },
      Math.min(words, 65_536),
      words,
    )
  }
}
