/** The chunks of one file that are in memory. */
export interface FileChunks {
  head: Uint8Array<ArrayBuffer> | undefined
  /** Indexes of the chunks in memory. */
  readonly chunks: ReadonlySet<number>
  /** Copies a verified chunk, if there is room. */
  add(index: number, bytes: Uint8Array<ArrayBuffer>): void
  read(index: number): Promise<Uint8Array<ArrayBuffer> | undefined>
}

/** Room for many experts of the usual size; beyond it, fetching twice is better than filling the memory. */
const MAX_BYTES = 64 << 20

/**
 * Verified chunks that no cache took (private mode, a full disk, no budget), for loads that wait for the same file: they
 * take the chunks over when the load before them ends, whether it finished or was aborted. Copies lie in Blobs, outside
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

  /** Drops all chunks: no load waits for them. */
  clear(): void {
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
      add: (index, bytes) => {
        if (blobs.has(index) || this.#bytes + bytes.length > MAX_BYTES) return
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
