import { checked } from './checked.ts'
import type { Gpu } from './device.ts'

/** How many passes are timed, the first ones. */
const TIMED_PASSES = 64
/** Of a pass: two ticks of 8 bytes. */
const PASS_BYTES = 16

/**
 * Measures the passes of one batch by timestamps. Times are only reported: without them, or if they cannot be read, the
 * work is done all the same.
 */
export class GpuTimer {
  readonly #queries: GPUQuerySet
  readonly #resolved: GPUBuffer
  readonly #staging: GPUBuffer
  #passes = 0

  /** Undefined where the device has no timestamps, or no room for them. */
  static async create(gpu: Gpu): Promise<GpuTimer | undefined> {
    const { device, features } = gpu
    if (!features.timestamps) return undefined
    const size = TIMED_PASSES * PASS_BYTES
    const creating = checked(
      gpu,
      'create a timer',
      () =>
        new GpuTimer(
          device.createQuerySet({ type: 'timestamp', count: 2 * TIMED_PASSES }),
          device.createBuffer({ size, usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC }),
          device.createBuffer({ size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST }),
        ),
    )
    return creating.catch(() => undefined)
  }

  private constructor(queries: GPUQuerySet, resolved: GPUBuffer, staging: GPUBuffer) {
    this.#queries = queries
    this.#resolved = resolved
    this.#staging = staging
  }

  /** Drops what was recorded, for the batch that takes the place of the first one. */
  reset(): void {
    this.#passes = 0
  }

  /** What times the next pass. */
  nextPass(): GPUComputePassTimestampWrites | undefined {
    if (this.#passes === TIMED_PASSES) return undefined
    const index = 2 * this.#passes++
    return {
      querySet: this.#queries,
      beginningOfPassWriteIndex: index,
      endOfPassWriteIndex: index + 1,
    }
  }

  /** Records that the times so far are written where {@link read} finds them. */
  resolve(encoder: GPUCommandEncoder): void {
    if (this.#passes === 0) return
    encoder.resolveQuerySet(this.#queries, 0, 2 * this.#passes, this.#resolved, 0)
    encoder.copyBufferToBuffer(this.#resolved, 0, this.#staging, 0, this.#passes * PASS_BYTES)
  }

  /** Waits for the submitted batch and destroys the timer. @returns ms over all passes; undefined if they cannot be read */
  async read(): Promise<number | undefined> {
    try {
      if (this.#passes === 0) return undefined
      await this.#staging.mapAsync(GPUMapMode.READ)
      const ticks = new BigUint64Array(this.#staging.getMappedRange())
      let nanoseconds = 0
      for (let pass = 0; pass < this.#passes; pass++) {
        nanoseconds += Number(ticks[2 * pass + 1] - ticks[2 * pass])
      }
      return nanoseconds / 1e6
    } catch {
      return undefined
    } finally {
      this.destroy()
    }
  }

  destroy(): void {
    this.#queries.destroy()
    this.#resolved.destroy()
    this.#staging.destroy()
  }
}
