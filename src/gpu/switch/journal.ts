import { ALIGNMENT } from '../batch.ts'
import type { Gpu } from '../device.ts'
import { checkSize, createBuffers, largestBuffer } from '../memory.ts'

/** The raw words that one active set has displaced, in spans of few buffers. */
export class Journal {
  readonly #buffers: readonly GPUBuffer[]
  readonly #spans: readonly GPUBufferBinding[]

  /**
   * @param sizes - bytes of each span
   * @throws {TritswapError} `memory`
   */
  static async create(gpu: Gpu, sizes: readonly number[]): Promise<Journal> {
    const limit = largestBuffer(gpu)
    const totals: number[] = []
    const spans = sizes.map((bytes) => {
      const size = Math.max(ALIGNMENT, Math.ceil(bytes / ALIGNMENT) * ALIGNMENT)
      checkSize(gpu, 'a journal', size)
      if (totals.length === 0 || totals[totals.length - 1] + size > limit) totals.push(0)
      const buffer = totals.length - 1
      const offset = totals[buffer]
      totals[buffer] += size
      return { buffer, offset, size }
    })
    const buffers = await createBuffers(gpu, 'the journal', totals)
    return new Journal(
      buffers,
      spans.map(({ buffer, offset, size }) => ({ buffer: buffers[buffer], offset, size })),
    )
  }

  private constructor(buffers: readonly GPUBuffer[], spans: readonly GPUBufferBinding[]) {
    this.#buffers = buffers
    this.#spans = spans
  }

  get bytes(): number {
    return this.#buffers.reduce((sum, { size }) => sum + size, 0)
  }

  /** What to bind for span `index`. */
  span(index: number): GPUBufferBinding {
    return this.#spans[index]
  }

  destroy(): void {
    for (const buffer of this.#buffers) buffer.destroy()
  }
}
