import { SerialQueue } from '../async/serial_queue.ts'
import type { TritHead } from '../format/head.ts'
import type { CachedFile } from '../source/cache.ts'
import type { FileChunks } from './memory_chunks.ts'

/**
 * The chunks of one file that this device has: in the cache, and in memory where the cache does not take them. Nothing
 * here fails: what cannot be read is as good as absent, and what cannot be written is only not there next time.
 */
export class LocalChunks {
  readonly #cached: CachedFile | undefined
  readonly #memory: FileChunks | undefined
  readonly #onRefused: (why: string) => void
  /** One write at a time, because each holds a copy of its chunk. */
  readonly #writes = new SerialQueue()
  #writable = false

  /**
   * @param cached - absent where the browser gives no storage
   * @param onRefused - told why the cache does not take chunks
   */
  constructor(
    cached: CachedFile | undefined,
    memory: FileChunks | undefined,
    onRefused: (why: string) => void,
  ) {
    this.#cached = cached
    this.#memory = memory
    this.#onRefused = onRefused
  }

  /** Indexes of the chunks that are here. */
  async indexes(): Promise<Set<number>> {
    const indexes = (await this.#cached?.chunks().catch(() => undefined)) ?? new Set<number>()
    for (const index of this.#memory?.chunks ?? []) indexes.add(index)
    return indexes
  }

  /** A chunk, to be verified; undefined if it is not here. */
  async read(index: number): Promise<Uint8Array<ArrayBuffer> | undefined> {
    return (await this.#memory?.read(index)) ?? (await this.#cached?.read(index).catch(() => undefined))
  }

  /** Opens the file in the cache for writing, and marks it as used, while the network is busy. */
  begin(name: string, { headBytes, payloadBytes, chunkBytes, bytes }: TritHead): void {
    const cached = this.#cached
    if (!cached) return
    void this.#writes.run(async () => {
      try {
        this.#writable = await cached.begin({ name, headBytes, payloadBytes, chunkBytes }, bytes)
        if (!this.#writable) this.#onRefused('the largest are over the budget of the cache')
      } catch (error) {
        this.#giveUp(error)
      }
    })
  }

  /** Starts to write a verified chunk; resolves once it is copied, so that `bytes` can be transferred. */
  write(index: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    return new Promise((copied) => {
      void this.#writes.run(async () => {
        const written = this.#writable ? this.#cached?.write(index, bytes) : undefined
        if (!written) this.#memory?.add(index, bytes)
        copied()
        await written?.catch((error) => this.#giveUp(error))
      })
    })
  }

  /** Resolves when all writes have ended. */
  settled(): Promise<void> {
    return this.#writes.run(() => {})
  }

  #giveUp(error: unknown): void {
    this.#writable = false
    this.#onRefused(`the browser refuses to store them (${error instanceof Error ? error.name : error})`)
  }
}
