import { TritswapError } from '../errors.ts'
import { wordsFor } from '../format/bits.ts'
import { BLOCK_WEIGHTS, MAX_STREAM_BITS, type TritHead, type TritTable, tilingOf } from '../format/index.ts'
import { Arena, type Region } from './arena.ts'
import { Batch, readBuffer, WORK_LIMIT } from './batch.ts'
import type { Gpu } from './device.ts'
import { type Kernel, kernelOf } from './kernel.ts'
import { checkSize, createBuffers, largestBuffer } from './memory.ts'
import { blocksOf, SECTION_FAILURES, sectionParams } from './sections.ts'

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
export interface StreamPlace {
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
  readonly #places: readonly StreamPlace[]
  #references = 1
  #evicted = false

  constructor(head: ExpertHead, region: Region, places: readonly StreamPlace[]) {
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
  placeOf(index: number): StreamPlace {
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

/** A tensor whose stream is in the arena. */
interface IndexedTensor {
  tensor: Extract<TritTable['tensors'][number], { codec: 'ternary' }>
  place: StreamPlace
}

/** Enough to keep a GPU busy, little enough to be done before the next chunk of a usual line arrives. */
const INDEX_BLOCKS = 64

interface IndexKernels {
  offsets: Kernel
  blocks: Kernel
  counts: Kernel
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
    const [offsets, blocks, counts] = await Promise.all([
      kernelOf(gpu, 'index_offsets'),
      kernelOf(gpu, 'index_blocks'),
      kernelOf(gpu, 'index_counts'),
    ])
    return new ExpertStore(gpu, { offsets, blocks, counts }, Math.min(budgetBytes, largestBuffer(gpu)))
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
    const places: StreamPlace[] = []
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
    const region = await this.arena.allocate(words)
    this.#uploading += words * 4
    return this.#upload(head, region, places)
  }

  #upload(head: ExpertHead, region: Region, places: readonly StreamPlace[]): ExpertUpload {
    let written = 0
    let open = true
    const isOpen = () => open && !this.#destroyed
    /** Payload bytes that tensors still lack; each byte is written once. */
    const missing = head.table.tensors.map(({ bytes }) => bytes)
    /** Whole streams that are not indexed yet, and how many blocks they have. */
    const whole = head.table.tensors.flatMap((tensor, i): IndexedTensor[] =>
      tensor.codec === 'ternary' && tensor.bytes === 0 ? [{ tensor, place: places[i] }] : [],
    )
    let blocks = 0
    const indexing: Promise<void>[] = []
    const index = () => {
      const passes = this.#index(whole.splice(0), region, isOpen)
      // `finish` looks; until then it must not count as unhandled.
      passes.catch(() => {})
      indexing.push(passes)
      blocks = 0
    }
    const arrived = (from: number, to: number) => {
      for (const [i, tensor] of head.table.tensors.entries()) {
        const bytes = Math.min(to, tensor.offset + tensor.bytes) - Math.max(from, tensor.offset)
        if (bytes <= 0) continue
        missing[i] -= bytes
        if (missing[i] > 0 || tensor.codec !== 'ternary') continue
        whole.push({ tensor, place: places[i] })
        blocks += blocksOf(tensor)
      }
      if (blocks >= INDEX_BLOCKS) index()
    }
    const close = () => {
      if (!open) return false
      open = false
      this.#uploading -= region.words * 4
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
          if (written < head.payloadBytes) {
            throw new TritswapError(
              'input',
              `Cannot finish an upload: ${written} of ${head.payloadBytes} bytes were written`,
            )
          }
          index()
          await Promise.all(indexing)
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

  /**
   * Fills the block indexes of some tensors on the GPU and checks every block.
   * @param isOpen - false once the region is somebody else's
   * @throws {TritswapError} `format`
   */
  async #index(ternary: readonly IndexedTensor[], region: Region, isOpen: () => boolean): Promise<void> {
    if (ternary.length === 0) return
    const blocks = ternary.reduce((sum, { tensor }) => sum + blocksOf(tensor), 0)
    const packed = () => this.#kernels.blocks.packArray('sections', sectionParams(ternary, region.first))
    const [sections, status] = await createBuffers(this.#gpu, 'the section table', [packed().byteLength, 16])
    if (!isOpen()) {
      sections.destroy()
      status.destroy()
      return
    }
    // From here to the submission nothing waits, so the region cannot move.
    const { queue } = this.#gpu.device
    queue.writeBuffer(sections, 0, packed())
    queue.writeBuffer(status, 0, Uint32Array.of(0, 0xffffffff))
    const bindings = {
      sections: { buffer: sections },
      arena: { buffer: this.arena.buffer },
      status: { buffer: status, size: 8 },
    }
    const batch = new Batch(this.#gpu)
    batch.dispatchGroups(this.#kernels.offsets, bindings, {}, ternary.length, blocks)
    const step = WORK_LIMIT / BLOCK_WEIGHTS
    for (let first = 0; first < blocks; first += step) {
      const end = Math.min(blocks, first + step)
      const params = { first_block: first, end_block: end }
      batch.dispatch(this.#kernels.blocks, bindings, params, end - first, (end - first) * BLOCK_WEIGHTS)
    }
    batch.dispatchGroups(this.#kernels.counts, bindings, {}, ternary.length, blocks)
    batch.submit()
    const [failures, section] = new Uint32Array(await readBuffer(this.#gpu, status, 0, 8))
    sections.destroy()
    status.destroy()
    if (failures === 0) return
    const { name } = ternary[section].tensor
    const why = SECTION_FAILURES.filter(({ bit }) => (failures & bit) !== 0).map(({ text }) => text)
    throw new TritswapError(
      'format',
      `Cannot use the expert: in ${name}, ${why.join(' and ')}; the file is broken, get another copy`,
      {
        fields: { tensor: name, failures: why },
      },
    )
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
