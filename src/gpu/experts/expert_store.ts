import { TritswapError } from '../../errors.ts'
import { wordsFor } from '../../format/bits.ts'
import { MAX_STREAM_BITS, type TritHead, type TritTable, tilingOf } from '../../format/index.ts'
import type { Gpu } from '../device.ts'
import { checkSize, largestBuffer } from '../memory.ts'
import { Arena, type Region } from './arena.ts'
import { type IndexKernels, indexKernels, StreamIndex } from './stream_index.ts'

export type ExpertHead = Pick<TritHead, 'table' | 'payloadBytes' | 'rootHash'>

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

/** An expert on its way into VRAM. */
export interface ExpertUpload {
  /** Verified payload bytes, in any order; offsets and lengths are multiples of 4. */
  write(payloadOffset: number, bytes: Uint8Array<ArrayBuffer>): void
  /**
   * Waits until the GPU has indexed and validated all streams, which it does as they come. The expert comes back with one reference, the caller's.
   * @throws {TritswapError} `format` if a stream contradicts the table; nothing stays behind
   */
  finish(): Promise<ResidentExpert>
  /** Gives the space back; does nothing after `finish`. */
  cancel(): void
}

/** Where one tensor of an expert lies, in arena words. */
export interface StreamSpan {
  /** First word of the code words, or of the dense values. */
  words: number
  /** First word of the block index; dense tensors have none. */
  index: number
}

/** An expert in VRAM, compressed: its payload as it came from the file, and an index made by the GPU. */
export class ResidentExpert {
  readonly rootHash: string
  readonly table: TritTable
  /** Compressed streams plus index. */
  readonly bytes: number
  readonly #region: Region
  /** Of each tensor, relative to the region. */
  readonly #places: readonly StreamSpan[]
  #references = 1
  #evicted = false

  constructor(head: ExpertHead, region: Region, places: readonly StreamSpan[]) {
    this.rootHash = head.rootHash
    this.table = head.table
    this.bytes = region.words * 4
    this.#region = region
    this.#places = places
  }

  get references(): number {
    return this.#references
  }

  /** True once its space was given away, or the store was destroyed. */
  get evicted(): boolean {
    return this.#evicted
  }

  /** @throws {TritswapError} `released` if it is gone from VRAM */
  retain(): this {
    if (this.#evicted) throw this.#gone('use')
    this.#references++
    return this
  }

  /**
   * Gives one reference back. At zero it stays in VRAM until its space is needed.
   * @throws {TritswapError} `released` when there is none left to give
   */
  release(): void {
    if (this.#references === 0) throw this.#gone('release')
    this.#references--
  }

  /** Where tensor `index` of the table is now. @internal */
  spanOf(index: number): StreamSpan {
    if (this.#evicted) throw this.#gone('use')
    const { words, index: blocks } = this.#places[index]
    return { words: this.#region.first + words, index: this.#region.first + blocks }
  }

  /** Forgets the space, and tells which it was. @internal */
  evict(): Region {
    this.#evicted = true
    return this.#region
  }

  #gone(what: string): TritswapError {
    const name = this.table.label ?? this.rootHash.slice(0, 12)
    return new TritswapError(
      'released',
      `Cannot ${what} the expert ${name}: it was released already; load it again`,
      {
        fields: { rootHash: this.rootHash },
      },
    )
  }
}

/** Compressed experts in VRAM under a byte budget: least recently used out first, those in use never. */
export class ExpertStore {
  readonly arena: Arena
  readonly #gpu: Gpu
  readonly #kernels: IndexKernels
  readonly #budget: number
  /** Least recently used first. */
  readonly #residents = new Set<ResidentExpert>()
  /** Bytes of uploads that are not residents yet. */
  #uploading = 0
  #allocation: Promise<unknown> = Promise.resolve()
  readonly #counts = { uploads: 0, uploadedBytes: 0, evictions: 0 }
  #destroyed = false

  /** @param options.budgetBytes - for streams and indexes; at most what one binding of this GPU can hold is used */
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
   * Makes room for an expert, evicting others that nobody uses.
   * @throws {TritswapError} `memory` when it does not fit beside those in use, `limit` for a stream that is too long
   */
  begin(head: ExpertHead): Promise<ExpertUpload> {
    const begun = this.#allocation.then(() => this.#begin(head))
    this.#allocation = begun.catch(() => {})
    return begun
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

  /** Moves an expert to the end of the queue for eviction. */
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

  destroy(): void {
    this.#destroyed = true
    for (const expert of this.#residents) expert.evict()
    this.#residents.clear()
    this.arena.destroy()
  }

  async #begin(head: ExpertHead): Promise<ExpertUpload> {
    const { table, payloadBytes } = head
    if (this.#destroyed) throw new TritswapError('released', 'Cannot load an expert: the store was destroyed')
    const places: StreamSpan[] = []
    let words = payloadBytes / 4
    for (const tensor of table.tensors) {
      const first = tensor.offset / 4
      if (tensor.codec !== 'ternary') {
        places.push({ words: first, index: 0 })
        continue
      }
      if (tensor.bytes * 8 > MAX_STREAM_BITS) {
        throw new TritswapError(
          'limit',
          `Cannot load ${tensor.name}: its ${tensor.bytes} bytes are over the limit of one stream`,
          {
            fields: { tensor: tensor.name, bytes: tensor.bytes },
          },
        )
      }
      const { blocks } = tilingOf(tensor.shape)
      places.push({ words: first + wordsFor(blocks * tensor.lengthBits), index: words })
      words += 2 * (blocks + 1)
    }
    this.#makeRoom(words * 4)
    const index = await StreamIndex.create(this.#gpu, this.#kernels, table)
    try {
      const region = await this.arena.allocate(words)
      this.#uploading += words * 4
      return this.#upload(head, region, places, index)
    } catch (error) {
      index.destroy()
      throw error
    }
  }

  #upload(
    head: ExpertHead,
    region: Region,
    places: readonly StreamSpan[],
    streams: StreamIndex,
  ): ExpertUpload {
    let written = 0
    let open = true
    /** Payload bytes that tensors still lack; each byte is written once. */
    const missing = head.table.tensors.map(({ bytes }) => bytes)
    /** Starts on a tensor that is whole. */
    const index = (i: number) => {
      const tensor = head.table.tensors[i]
      if (tensor.codec === 'ternary')
        streams.add({ tensor, place: places[i] }, this.arena.buffer, region.first)
    }
    for (const [i, bytes] of missing.entries()) if (bytes === 0) index(i)
    const arrived = (from: number, to: number) => {
      for (const [i, tensor] of head.table.tensors.entries()) {
        const bytes = Math.min(to, tensor.offset + tensor.bytes) - Math.max(from, tensor.offset)
        if (bytes <= 0) continue
        missing[i] -= bytes
        if (missing[i] === 0) index(i)
      }
      // Whoever says that this was the last of it may be waiting for other things.
      if (written === head.payloadBytes) streams.flush(this.arena.buffer, region.first)
    }
    const close = () => {
      if (!open) return false
      open = false
      this.#uploading -= region.words * 4
      streams.destroy()
      return true
    }
    return {
      write: (payloadOffset, bytes) => {
        if (!open || this.#destroyed) return
        if (payloadOffset + bytes.length > head.payloadBytes) {
          throw new TritswapError(
            'input',
            `Cannot upload bytes ${payloadOffset}–${payloadOffset + bytes.length}: the payload has ${head.payloadBytes}`,
          )
        }
        this.#gpu.device.queue.writeBuffer(this.arena.buffer, region.first * 4 + payloadOffset, bytes)
        written += bytes.length
        arrived(payloadOffset, payloadOffset + bytes.length)
        this.#counts.uploadedBytes += bytes.length
      },
      finish: async () => {
        try {
          if (!open || this.#destroyed)
            throw new TritswapError('released', 'Cannot finish an upload that was cancelled')
          const partial = missing.findIndex((bytes) => bytes !== 0)
          if (partial >= 0) {
            const { name } = head.table.tensors[partial]
            throw new TritswapError(
              'input',
              `Cannot finish an upload: ${written} of ${head.payloadBytes} bytes were written, and those of ${name} not once each`,
            )
          }
          streams.flush(this.arena.buffer, region.first)
          await streams.check()
        } catch (error) {
          if (close()) this.arena.free(region)
          throw error
        }
        if (!close() || this.#destroyed)
          throw new TritswapError('released', 'Cannot finish an upload that was cancelled')
        const expert = new ResidentExpert(head, region, places)
        this.#residents.add(expert)
        this.#counts.uploads++
        return expert
      },
      cancel: () => {
        if (close()) this.arena.free(region)
      },
    }
  }

  #used(): number {
    let bytes = this.#uploading
    for (const expert of this.#residents) bytes += expert.bytes
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
      this.#residents.delete(expert)
      this.arena.free(expert.evict())
      this.#counts.evictions++
    }
  }
}
