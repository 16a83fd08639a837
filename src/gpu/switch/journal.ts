import { ALIGNMENT } from '../batch.ts'
import type { Gpu } from '../device.ts'
import { checkSize, createBuffers, largestBuffer } from '../memory.ts'

/** Displaced raw words of one active set: a binding for each region that was asked for. */
export class Journal {
  readonly #buffers: readonly GPUBuffer[]
  readonly #regions: readonly GPUBufferBinding[]

  /**
   * @param sizes - bytes of each region
   * @throws {TritswapError} `memory`
   */
  static async create(gpu: Gpu, sizes: readonly number[]): Promise<Journal> {
    const limit = largestBuffer(gpu)
    const totals: number[] = []
    const places = sizes.map((bytes) => {
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
      places.map(({ buffer, offset, size }) => ({ buffer: buffers[buffer], offset, size })),
    )
  }

  private constructor(buffers: readonly GPUBuffer[], regions: readonly GPUBufferBinding[]) {
    this.#buffers = buffers
    this.#regions = regions
  }

  get bytes(): number {
    return this.#buffers.reduce((sum, { size }) => sum + size, 0)
  }

  /** What to bind for region `index`. */
  region(index: number): GPUBufferBinding {
    return this.#regions[index]
  }

  destroy(): void {
    for (const buffer of this.#buffers) buffer.destroy()
  }
}
