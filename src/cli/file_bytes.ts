import { readSync } from 'node:fs'

/**
 * The bytes of a file, read when a part of them is asked for. onnxruntime's wasm takes an external data file as an array
 * and copies each initializer out of `subarray(from, to)`: with these the weights never lie in memory twice.
 */
export class FileBytes extends Uint8Array<ArrayBuffer> {
  readonly #descriptor: number

  static get [Symbol.species](): Uint8ArrayConstructor {
    return Uint8Array
  }

  /** @param size - of the file; it must stay open */
  constructor(descriptor: number, size: number) {
    super(new ArrayBuffer(0))
    this.#descriptor = descriptor
    Object.defineProperty(this, 'byteLength', { value: size })
  }

  override subarray(from = 0, to = this.byteLength): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(Math.max(0, Math.min(to, this.byteLength) - from))
    for (let filled = 0; filled < bytes.length; ) {
      const count = readSync(this.#descriptor, bytes, filled, bytes.length - filled, from + filled)
      if (count === 0) throw new RangeError(`Cannot read ${bytes.length} bytes at ${from}: the file ends`)
      filled += count
    }
    return bytes
  }
}
