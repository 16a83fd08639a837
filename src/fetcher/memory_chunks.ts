/** What one file has in memory. */
export interface FileChunks {
  head: Uint8Array<ArrayBuffer> | undefined
  /** Indexes of the chunks that are there. */
  readonly chunks: ReadonlySet<number>
  /** Keeps a copy of a verified chunk, if there is room. */
  keep(index: number, bytes: Uint8Array<ArrayBuffer>): void
  read(index: number): Promise<Uint8Array<ArrayBuffer> | undefined>
}

/** Many experts of the usual size; more would rather be fetched twice than fill the memory. */
const MAX_HELD_BYTES = 64 << 20

/**
 * Verified chunks that no cache took (private mode, a full disk, no budget), kept for those who wait for the same file:
 * they take them over when the load before theirs ends, whether it was finished or aborted. Copies lie in Blobs, outside
 * of the heap.
 */
export class MemoryChunks {
  readonly #files = new Map<string, FileChunks>()
  #bytes = 0

  open(rootHash: string): FileChunks {
    let file = this.#files.get(rootHash)
    if (!file) {
      file = this.#create()
      this.#files.set(rootHash, file)
    }
    return file
  }

  /** Nobody waits. */
  forget(): void {
    this.#files.clear()
    this.#bytes = 0
  }

  #create(): FileChunks {
    const blobs = new Map<number, Blob>()
    return {
      head: undefined,
      get chunks() {
        return new Set(blobs.keys())
      },
      keep: (index, bytes) => {
        if (blobs.has(index) || this.#bytes + bytes.length > MAX_HELD_BYTES) return
        blobs.set(index, new Blob([bytes]))
        this.#bytes += bytes.length
      },
      async read(index) {
        const blob = blobs.get(index)
        return blob && new Uint8Array(await blob.arrayBuffer())
      },
    }
  }
}
