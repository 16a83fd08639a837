import { TritswapError } from '../../errors.ts'
import { floatsToHalves } from '../../format/float16.ts'
import { BLOCK_WEIGHTS, tilingOf } from '../../format/index.ts'
import { Batch } from '../batch.ts'
import type { Gpu } from '../device.ts'
import { jobParams, type Strides, streamParams } from '../job.ts'
import { type Kernel, kernelOf, type TargetDtype } from '../kernel.ts'
import { createBuffers } from '../memory.ts'
import type { ExpertStore, ResidentExpert } from './expert_store.ts'

/** Code 2, which is MatMulNBits' zero for 2 bits, in all 16 fields of a word. */
const ZEROS = 0xaaaaaaaa
const FIELDS_PER_WORD = 16
const ONE = { float32: 0x3f800000, float16: 0x3c003c00 } as const
/** Blocks of a tensor in one dispatch: those are never cut. */
const STEP = 16_384
/** onnxruntime-web binds buffers in multiples of this. */
const ALIGNMENT = 16

/** A tensor of an expert, and where its elements go in a buffer. */
export interface UnpackedPart extends Strides {
  expert: ResidentExpert
  /** In the expert's table. */
  index: number
}

/** A buffer to be made, for graphs to be fed with. */
export type UnpackRequest =
  /** Ternary tensors as B of a MatMulNBits with 2 bits: `fields` of them, code 2 where no tensor has anything. */
  | { kind: 'codes'; fields: number; parts: readonly UnpackedPart[] }
  /** The sum of tensors times their weights, on top of zeros or ones. */
  | {
      kind: 'floats'
      dtype: TargetDtype
      count: number
      from: 0 | 1
      parts: readonly (UnpackedPart & { weight: number })[]
    }
  /** Numbers. */
  | { kind: 'values'; dtype: TargetDtype; values: readonly number[] }

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
   * Makes buffers, in the order of the requests; all or none.
   * @throws {TritswapError} `unsupported` for codes of a dense tensor, `released` for an expert that is gone, `memory`
   */
  async unpack(requests: readonly UnpackRequest[]): Promise<GPUBuffer[]> {
    for (const request of requests) if (request.kind === 'codes') checkTernary(request.parts)
    const sizes = requests.map((request) => Math.ceil(sizeOf(request) / ALIGNMENT) * ALIGNMENT)
    const buffers = await createBuffers(this.#gpu, 'experts beside the weights', sizes)
    try {
      const batch = new Batch(this.#gpu)
      for (const [i, request] of requests.entries()) this.#encode(batch, request, buffers[i])
      batch.submit()
    } catch (error) {
      for (const buffer of buffers) buffer.destroy()
      throw error
    }
    return buffers
  }

  #encode(batch: Batch, request: UnpackRequest, buffer: GPUBuffer): void {
    if (request.kind === 'values') {
      const { values, dtype } = request
      const floats = Float32Array.from({ length: Math.ceil(values.length / 2) * 2 }, (_, i) => values[i] ?? 0)
      this.#gpu.device.queue.writeBuffer(buffer, 0, dtype === 'float16' ? floatsToHalves(floats) : floats)
      return
    }
    if (request.kind === 'codes') {
      this.#fill(batch, buffer, ZEROS)
      for (const part of request.parts)
        this.#dispatch(batch, this.#kernels.side, { fields: { buffer } }, part, 1, FIELDS_PER_WORD / 4)
      return
    }
    if (request.from === 1) this.#fill(batch, buffer, ONE[request.dtype])
    for (const part of request.parts)
      this.#dispatch(batch, this.#kernels.dense[request.dtype], { weights: { buffer } }, part, part.weight, 1)
  }

  #dispatch(
    batch: Batch,
    kernel: Kernel,
    target: Record<string, GPUBufferBinding>,
    { expert, index, ...strides }: UnpackedPart,
    weight: number,
    cost: number,
  ): void {
    const tensor = expert.table.tensors[index]
    const { blocks } = tilingOf(tensor.shape)
    const streams = [streamParams(tensor, expert.spanOf(index), weight)]
    const bindings = { ...target, arena: { buffer: this.#experts.arena.buffer } }
    for (let first = 0; first < blocks; first += STEP) {
      const end = Math.min(blocks, first + STEP)
      const job = jobParams(tensor.shape, strides, streams, 0, first, end)
      batch.dispatch(kernel, bindings, job, end - first, (end - first) * BLOCK_WEIGHTS * cost)
    }
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

function sizeOf(request: UnpackRequest): number {
  if (request.kind === 'codes') return Math.ceil(request.fields / 4)
  const count = request.kind === 'values' ? request.values.length : request.count
  return count * (request.dtype === 'float16' ? 2 : 4)
}

function checkTernary(parts: readonly UnpackedPart[]): void {
  for (const { expert, index } of parts) {
    const tensor = expert.table.tensors[index]
    if (tensor.codec === 'ternary') continue
    throw new TritswapError(
      'unsupported',
      `Cannot use ${tensor.name} beside the base: it is dense, and 2 bits hold ternary weights only`,
      { fields: { tensor: tensor.name } },
    )
  }
}
