import { TritswapError } from '../../errors.ts'
import { BLOCK_WEIGHTS, type TritTable, type TritTensor, tilingOf } from '../../format/index.ts'
import { ALIGNMENT, Batch, readBuffer, WORK_LIMIT } from '../batch.ts'
import { checked } from '../checked.ts'
import type { Gpu } from '../device.ts'
import type { StreamSpan } from '../job.ts'
import { type Kernel, kernelOf } from '../kernel.ts'
import { createBuffers } from '../memory.ts'
import { streamForm } from '../stream_form.ts'
import { type GolombTensor, SECTION_FAILURES, sectionParams } from './sections.ts'

/** A tensor whose stream is in the arena. */
export interface IndexedTensor {
  tensor: GolombTensor & Pick<TritTensor, 'name'>
  /** Relative to the first word of the expert. */
  span: StreamSpan
}

/** Blocks of a batch: enough to occupy a GPU, few enough to be done before the network delivers the next chunk. */
const BATCH_BLOCKS = 64

export interface IndexKernels {
  offsets: Kernel
  blocks: Kernel
  counts: Kernel
}

export async function indexKernels(gpu: Gpu): Promise<IndexKernels> {
  const [offsets, blocks, counts] = await Promise.all([
    kernelOf(gpu, 'index_offsets'),
    kernelOf(gpu, 'index_blocks'),
    kernelOf(gpu, 'index_counts'),
  ])
  return { offsets, blocks, counts }
}

/**
 * Fills the block indexes of one expert on the GPU, stream by stream as they become complete, and checks every block.
 * Only `check` waits for the GPU, to read what all batches have found.
 */
export class StreamIndex {
  readonly #gpu: Gpu
  readonly #kernels: IndexKernels
  /** Has a status for each batch; undefined where no tensor is ternary. */
  readonly #status: GPUBuffer | undefined
  /** The sections of each batch. */
  readonly #tables: GPUBuffer[] = []
  #batches: (readonly IndexedTensor[])[] = []
  /** Settles when the device has accepted the batches so far, or refused one. */
  #accepted: Promise<unknown> = Promise.resolve()
  #waiting: IndexedTensor[] = []
  #waitingBlocks = 0

  /** @throws {TritswapError} `memory` */
  static async create(
    gpu: Gpu,
    kernels: IndexKernels,
    { tensors }: Pick<TritTable, 'tensors'>,
  ): Promise<StreamIndex> {
    const ternary = tensors.filter((tensor) => streamForm(tensor).kind === 'golomb')
    if (ternary.length === 0) return new StreamIndex(gpu, kernels, undefined)
    const blocks = ternary.reduce((sum, { shape }) => sum + tilingOf(shape).blocks, 0)
    const batches = Math.min(ternary.length, Math.floor(blocks / BATCH_BLOCKS) + 1)
    const [status] = await createBuffers(gpu, 'the status of an index', [batches * ALIGNMENT])
    return new StreamIndex(gpu, kernels, status)
  }

  private constructor(gpu: Gpu, kernels: IndexKernels, status: GPUBuffer | undefined) {
    this.#gpu = gpu
    this.#kernels = kernels
    this.#status = status
  }

  /**
   * Takes a stream that is complete in the arena. The waiting streams are indexed once they fill a batch.
   * @param first - current arena word of the expert
   */
  add(stream: IndexedTensor, arena: GPUBuffer, first: number): void {
    this.#waiting.push(stream)
    this.#waitingBlocks += tilingOf(stream.tensor.shape).blocks
    if (this.#waitingBlocks >= BATCH_BLOCKS) this.flush(arena, first)
  }

  /** Indexes the waiting streams. */
  flush(arena: GPUBuffer, first: number): void {
    const ternary = this.#waiting
    const blocks = this.#waitingBlocks
    if (ternary.length === 0) return
    this.#waiting = []
    this.#waitingBlocks = 0
    const status = this.#status as GPUBuffer
    const statusAt = this.#batches.length * ALIGNMENT
    const packed = this.#kernels.blocks.packArray('sections', sectionParams(ternary, first))
    this.#batches.push(ternary)
    this.#check(() => {
      const bindings = {
        sections: { buffer: this.#tableOf(packed) },
        arena: { buffer: arena },
        status: { buffer: status, offset: statusAt, size: this.#kernels.blocks.storageBytes('status') },
      }
      this.#gpu.device.queue.writeBuffer(status, statusAt, Uint32Array.of(0, 0xffffffff))
      const batch = new Batch(this.#gpu)
      batch.dispatchGroups(this.#kernels.offsets, bindings, {}, ternary.length, blocks)
      const step = WORK_LIMIT / BLOCK_WEIGHTS
      for (let from = 0; from < blocks; from += step) {
        const end = Math.min(blocks, from + step)
        const params = { first_block: from, end_block: end }
        batch.dispatch(this.#kernels.blocks, bindings, params, end - from, (end - from) * BLOCK_WEIGHTS)
      }
      batch.dispatchGroups(this.#kernels.counts, bindings, {}, ternary.length, blocks)
      batch.submit()
    })
  }

  /** Writes into the arena; {@link check} tells whether the device accepted it. */
  write(arena: GPUBuffer, offset: number, bytes: ArrayBufferView<ArrayBuffer>): void {
    this.#check(() => this.#gpu.device.queue.writeBuffer(arena, offset, bytes))
  }

  /**
   * Waits until the GPU has indexed all flushed streams.
   * @throws {TritswapError} `format` for the first stream that contradicts the table; `memory`, `webgpu` and
   * `device-lost` where the device did not do its part
   */
  async check(): Promise<void> {
    await this.#accepted
    if (this.#batches.length === 0) return
    const found = await readBuffer(this.#gpu, this.#status as GPUBuffer, 0, this.#batches.length * ALIGNMENT)
    for (const [i, ternary] of this.#batches.entries()) {
      const [failures, section] = new Uint32Array(found, i * ALIGNMENT, 2)
      if (failures === 0) continue
      const { name } = ternary[section].tensor
      const why = SECTION_FAILURES.filter(({ bit }) => (failures & bit) !== 0).map(({ text }) => text)
      throw new TritswapError(
        'format',
        `Cannot use the expert: in ${name}, ${why.join(' and ')}; the file is broken, get another copy`,
        { fields: { tensor: name, failures: why } },
      )
    }
  }

  /**
   * A table that has its content from its creation on: no pass runs with one that could not be written, and writes into
   * the arena wherever zeros send it.
   */
  #tableOf(packed: ArrayBuffer): GPUBuffer {
    const usage = GPUBufferUsage.STORAGE
    const table = this.#gpu.device.createBuffer({ size: packed.byteLength, usage, mappedAtCreation: true })
    this.#tables.push(table)
    new Uint8Array(table.getMappedRange()).set(new Uint8Array(packed))
    table.unmap()
    return table
  }

  #check(calls: () => void): void {
    const accepted = checked(this.#gpu, 'load the expert', calls)
    this.#accepted = Promise.all([this.#accepted, accepted])
    this.#accepted.catch(() => {})
  }

  /** Frees its buffers; submitted work still completes. */
  destroy(): void {
    this.#status?.destroy()
    for (const table of this.#tables) table.destroy()
  }
}
