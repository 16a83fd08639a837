import { type Batch, readBuffer } from '../batch.ts'
import { checked } from '../checked.ts'
import type { Gpu } from '../device.ts'
import { createBuffers } from '../memory.ts'

/** Submissions of a batch that are told apart. */
const WITNESSED = 64

/** Brings batches to the queue, each as a whole or not at all. */
export class WholeSubmission {
  readonly #gpu: Gpu
  /** A word for each submission of a batch: the submission itself sets it to zero. */
  readonly #witness: GPUBuffer

  /** @throws {TritswapError} `memory`, `webgpu`, `device-lost` */
  static async create(gpu: Gpu): Promise<WholeSubmission> {
    const [witness] = await createBuffers(gpu, 'a witness', [WITNESSED * 4])
    return new WholeSubmission(gpu, witness)
  }

  private constructor(gpu: Gpu, witness: GPUBuffer) {
    this.#gpu = gpu
    this.#witness = witness
  }

  /**
   * Records a batch and has the device check it.
   * @param record - called again if `version` has changed while the device checked the batch
   * @returns the batch to be submitted, in this turn of the event loop: spans may move in the next one
   * @throws {TritswapError} `memory`, `webgpu`, `device-lost`; nothing of the batch has run then
   */
  async prepare(record: (options: { witness: GPUBuffer }) => Batch, version: () => number): Promise<Batch> {
    const options = { witness: this.#witness }
    for (;;) {
      const recorded = version()
      let batch: Batch | undefined
      try {
        await checked(this.#gpu, 'switch', () => {
          batch = record(options)
          batch.end()
          this.#gpu.device.queue.writeBuffer(this.#witness, 0, new Uint32Array(WITNESSED).fill(1))
        })
      } catch (error) {
        batch?.destroy()
        throw error
      }
      if (version() === recorded) return batch as unknown as Batch
      batch?.destroy()
    }
  }

  /**
   * Submits a batch before it returns. Resolves once the device has accepted it, which does not wait for the GPU.
   * @throws {TritswapError} `memory`, `webgpu`; nothing of the batch has run then. `device-lost`, also where only a part
   * of it has run: the device is destroyed then, for nothing tells what its buffers hold
   */
  async submit(batch: Batch): Promise<void> {
    const { submissions } = batch
    try {
      await checked(this.#gpu, 'switch', () => batch.submit())
    } catch (error) {
      // The error says that something failed, not what has run: that is read from the witness.
      const ran = await this.#ran(submissions)
      if (ran === 'none') throw error
      if (ran === 'all') return
      this.#gpu.device.destroy()
      await this.#gpu.device.lost
      this.#gpu.lost.throwIfAborted()
      throw error
    }
  }

  destroy(): void {
    this.#witness.destroy()
  }

  async #ran(submissions: number): Promise<'none' | 'some' | 'all'> {
    const words = await readBuffer(this.#gpu, this.#witness, 0, WITNESSED * 4).catch(() => undefined)
    // One submission that was refused has not run.
    if (words === undefined) return submissions === 1 ? 'none' : 'some'
    const ran = new Uint32Array(words).filter((word) => word === 0).length
    return ran === 0 ? 'none' : ran === submissions ? 'all' : 'some'
  }
}
