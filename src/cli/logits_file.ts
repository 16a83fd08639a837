import { type FileHandle, open } from 'node:fs/promises'
import type { WindowLogits } from '../model/score.ts'

/** Logits of examples on disk: those of a whole test take more room than a model. */
export class LogitsFile {
  readonly #file: FileHandle
  readonly #places: { offset: number; vocabulary: number; bytes: number }[] = []

  private constructor(file: FileHandle) {
    this.#file = file
  }

  static async create(path: string): Promise<LogitsFile> {
    return new LogitsFile(await open(path, 'w+'))
  }

  /** Adds those of the next example. */
  async add({ data, vocabulary }: WindowLogits): Promise<void> {
    const last = this.#places.at(-1)
    const offset = last === undefined ? 0 : last.offset + last.bytes
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
    for (let at = 0; at < bytes.length; )
      at += (await this.#file.write(bytes, at, bytes.length - at, offset + at)).bytesWritten
    this.#places.push({ offset, vocabulary, bytes: bytes.length })
  }

  async read(example: number): Promise<WindowLogits> {
    const { offset, vocabulary, bytes } = this.#places[example]
    const data = new Float32Array(bytes / 4)
    const into = new Uint8Array(data.buffer)
    for (let at = 0; at < bytes; ) at += (await this.#file.read(into, at, bytes - at, offset + at)).bytesRead
    return { data, vocabulary }
  }

  async close(): Promise<void> {
    await this.#file.close()
  }
}
