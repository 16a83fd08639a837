import { TritswapError } from '../../errors.ts'
import type { TermVectors } from '../../format/contributions.ts'
import { floatsToHalves } from '../../format/float16.ts'
import { Batch, STRIDING_INVOCATIONS } from '../batch.ts'
import { checked } from '../checked.ts'
import type { Gpu } from '../device.ts'
import { dispatchJob, type ElementPlacement, streamParams } from '../job.ts'
import { type Kernel, kernelOf } from '../kernel.ts'
import { BUFFER_ALIGNMENT, createBuffers } from '../memory.ts'
import { streamForm } from '../stream_form.ts'
import { PER_WORD, type TargetDtype } from '../target.ts'
import { vectorsParams, vectorsShape } from '../terms_form.ts'
import type { ExpertStore } from './expert_store.ts'
import type { ResidentExpert } from './resident_expert.ts'

/** Code 2, which is zero in MatMulNBits of 2 bits, in all 16 fields of a word. */
const ZERO_CODES = 0xaaaaaaaa
/** Units of work for a weight in `side`, which takes its codes one at a time. */
const SIDE_WORK = 4
/** A word of ones. */
const ONES = { float32: 0x3f800000, float16: 0x3c003c00 } as const

/** A tensor of an expert, and the placement of its elements in a buffer. */
export interface UnpackedPart extends ElementPlacement {
  expert: ResidentExpert
  /** In the expert's table. */
  index: number
  /** One side of a tensor of terms, as a matrix of terms × entries; all of the tensor by default. */
  vectors?: TermVectors
}

/** A buffer to create as an input of graphs. */
export type UnpackRequest =
  /** Ternary tensors as the weights of a MatMulNBits with 2 bits: `fields` of them, zero outside the tensors. */
  | { kind: 'codes'; fields: number; parts: readonly UnpackedPart[] }
  /** Zeros or ones plus the sum of tensors times their weights. */
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
 * Unpacks resident experts into inputs of graphs, for the bindings that do not change the base: `side` and `input`. The
 * buffers belong to the caller.
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
   * Creates the buffers in the order of the requests, all or none.
   * @throws {TritswapError} `unsupported` for codes of a dense tensor, `released` for an expert that is gone, `memory`
   */
  async unpack(requests: readonly UnpackRequest[]): Promise<GPUBuffer[]> {
    for (const request of requests) if (request.kind === 'codes') checkTernary(request.parts)
    const sizes = requests.map((request) => Math.ceil(sizeOf(request) / BUFFER_ALIGNMENT) * BUFFER_ALIGNMENT)
    const buffers = await createBuffers(this.#gpu, 'experts beside the weights', sizes)
    try {
      await checked(this.#gpu, 'unpack experts', () => {
        const batch = new Batch(this.#gpu)
        for (const [i, request] of requests.entries()) this.#encode(batch, request, buffers[i])
        batch.submit()
      })
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
      this.#fill(batch, buffer, ZERO_CODES)
      for (const part of request.parts)
        this.#dispatch(batch, this.#kernels.side, { fields: { buffer } }, part, 1, SIDE_WORK)
      return
    }
    if (request.from === 1) this.#fill(batch, buffer, ONES[request.dtype])
    for (const part of request.parts)
      this.#dispatch(batch, this.#kernels.dense[request.dtype], { weights: { buffer } }, part, part.weight, 1)
  }

  #dispatch(
    batch: Batch,
    kernel: Kernel,
    target: Record<string, GPUBufferBinding>,
    { expert, index, vectors, ...placement }: UnpackedPart,
    weight: number,
    work: number,
  ): void {
    const tensor = expert.table.tensors[index]
    const span = expert.spanOf(index)
    const bindings = { ...target, arena: { buffer: this.#experts.arena.buffer } }
    const [shape, stream] =
      vectors === undefined
        ? [tensor.shape, streamParams(tensor, span, weight)]
        : [vectorsShape(tensor, vectors), vectorsParams(tensor, span, weight, vectors)]
    dispatchJob(batch, kernel, bindings, { shape, placement, reverted: [], applied: [stream] }, { work })
  }

  #fill(batch: Batch, buffer: GPUBuffer, value: number): void {
    const words = buffer.size / 4
    batch.dispatch(
      this.#kernels.fill,
      { filled: { buffer } },
      { words, value },
      Math.min(words, STRIDING_INVOCATIONS),
      words,
    )
  }
}

function sizeOf(request: UnpackRequest): number {
  if (request.kind === 'codes') return Math.ceil(request.fields / 4)
  const count = request.kind === 'values' ? request.values.length : request.count
  return (count / PER_WORD[request.dtype]) * 4
}

function checkTernary(parts: readonly UnpackedPart[]): void {
  for (const { expert, index } of parts) {
    const tensor = expert.table.tensors[index]
    if (streamForm(tensor).kind === 'golomb') continue
    throw new TritswapError(
      'unsupported',
      `Cannot use ${tensor.name} beside the base: it is dense, and 2 bits hold ternary weights only`,
      { fields: { tensor: tensor.name } },
    )
  }
}
