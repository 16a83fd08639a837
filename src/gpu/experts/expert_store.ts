import { SerialQueue } from '../../async/serial_queue.ts'
import { TritswapError } from '../../errors.ts'
import type { Gpu } from '../device.ts'
import { checkSize, largestBuffer } from '../memory.ts'
import { sharingOf } from '../tuning.ts'
import { Arena } from './arena.ts'
import { ExpertUpload } from './expert_upload.ts'
import { type ExpertHead, layoutOf, type ResidentExpert } from './resident_expert.ts'
import { type IndexKernels, indexKernels, StreamIndex } from './stream_index.ts'

export interface ExpertStoreStats {
  residents: number
  /** Streams and indexes in use. */
  bytes: number
  /** The GPUBuffer they lie in. */
  arenaBytes: number
  budgetBytes: number
  uploads: number
  uploadedBytes: number
  evictions: number
}

/** Compressed experts in VRAM under a byte budget. It evicts the least recently used first, and none in use. */
export class ExpertStore {
  readonly arena: Arena
  readonly #gpu: Gpu
  readonly #kernels: IndexKernels
  readonly #budget: number
  /** Least recently used first. */
  readonly #residents = new Set<ResidentExpert>()
  readonly #uploads = new Set<ExpertUpload>()
  readonly #allocations = new SerialQueue()
  readonly #counts = { uploads: 0, uploadedBytes: 0, evictions: 0 }
  #destroyed = false

  /** @param options.budgetBytes - for streams and indexes; lowered to what one binding of this GPU can hold */
  static async create({ gpu, budgetBytes }: { gpu: Gpu; budgetBytes: number }): Promise<ExpertStore> {
    const kernels = await indexKernels(gpu)
    return new ExpertStore(gpu, kernels, Math.min(budgetBytes, largestBuffer(gpu)))
  }

  private constructor(gpu: Gpu, kernels: IndexKernels, budget: number) {
    this.#gpu = gpu
    this.#kernels = kernels
    this.#budget = budget
    this.arena = new Arena(gpu)
  }

  /**
   * Makes room for an expert by evicting others that have no references.
   * @throws {TritswapError} `memory` when it does not fit beside those in use, `limit` for a stream that is too long,
   * `released` once the store is destroyed
   */
  begin(head: ExpertHead): Promise<ExpertUpload> {
    return this.#allocations.run(() => this.#begin(head))
  }

  /** A resident expert by root hash, not retained. Counts as a use. */
  find(rootHash: string): ResidentExpert | undefined {
    for (const expert of this.#residents) {
      if (expert.rootHash !== rootHash) continue
      this.touch(expert)
      return expert
    }
    return undefined
  }

  /** Marks an expert as the most recently used. */
  touch(expert: ResidentExpert): void {
    if (this.#residents.delete(expert)) this.#residents.add(expert)
  }

  stats(): ExpertStoreStats {
    return {
      residents: this.#residents.size,
      bytes: this.#used(),
      arenaBytes: this.arena.bytes,
      budgetBytes: this.#budget,
      ...this.#counts,
    }
  }

  /** Evicts all experts that are not in use, and gives back the room that they had. @throws {TritswapError} `memory` */
  trim(): Promise<void> {
    return this.#allocations.run(() => {
      for (const expert of this.#residents) if (expert.references === 0) this.#evict(expert)
      return this.arena.compact()
    })
  }

  destroy(): void {
    this.#destroyed = true
    for (const upload of this.#uploads) upload.cancel()
    for (const expert of this.#residents) expert.evict()
    this.#residents.clear()
    this.arena.destroy()
  }

  async #begin(head: ExpertHead): Promise<ExpertUpload> {
    this.#checkAlive()
    const layout = layoutOf(head, sharingOf(this.#gpu).indexWords)
    this.#makeRoom(layout.words * 4)
    const index = await StreamIndex.create(this.#gpu, this.#kernels, head.table)
    try {
      const span = await this.arena.allocate(layout.words)
      if (this.#destroyed) this.arena.free(span)
      this.#checkAlive()
      const upload = new ExpertUpload({
        arena: this.arena,
        head,
        layout,
        span,
        index,
        onWrite: (bytes) => {
          this.#counts.uploadedBytes += bytes
        },
        onEnd: (expert) => {
          this.#uploads.delete(upload)
          if (expert === undefined) return
          this.#residents.add(expert)
          this.#counts.uploads++
        },
      })
      this.#uploads.add(upload)
      return upload
    } catch (error) {
      index.destroy()
      throw error
    }
  }

  #checkAlive(): void {
    if (this.#destroyed) throw new TritswapError('released', 'Cannot load an expert: the store was destroyed')
  }

  #used(): number {
    let bytes = 0
    for (const user of [...this.#residents, ...this.#uploads]) bytes += user.bytes
    return bytes
  }

  #makeRoom(bytes: number): void {
    checkSize(this.#gpu, 'the expert', bytes)
    let missing = this.#used() + bytes - this.#budget
    const idle = [...this.#residents].filter(({ references }) => references === 0)
    const freeable = idle.reduce((sum, expert) => sum + expert.bytes, 0)
    if (missing > freeable) {
      throw new TritswapError(
        'memory',
        `Cannot load the expert: it takes ${bytes} bytes, and ${this.#budget - this.#used() + freeable} of the budget of ${this.#budget} can be had; release experts or raise the budget`,
        { fields: { bytes, budget: this.#budget, used: this.#used(), freeable } },
      )
    }
    for (const expert of idle) {
      if (missing <= 0) break
      missing -= expert.bytes
      this.#evict(expert)
    }
  }

  #evict(expert: ResidentExpert): void {
    this.#residents.delete(expert)
    this.arena.free(expert.evict())
    this.#counts.evictions++
  }
}
