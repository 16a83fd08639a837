import { TritswapError } from '../errors.ts'
import { buildHead } from './head.ts'
import { MIN_CHUNK_LOG2 } from './limits.ts'
import { sha256 } from './sha256.ts'
import type { NewTensor, TritTable } from './table.ts'
import type { DistributiveOmit } from './tensor.ts'

/** Where the payload waits until the head, which comes first in the file, is known. */
export interface PayloadSpool {
  append(bytes: Uint8Array<ArrayBuffer>): Promise<void>
}

/**
 * Writes a `.trit` file section by section, hashing chunks as they fill. The payload goes to a spool (memory, or
 * a temporary file for what does not fit), so memory stays at one chunk plus what the spool keeps.
 *
 * ```ts
 * const spool = memorySpool()
 * const writer = new TritWriter(spool)
 * await writer.add({ name, shape, codec: 'ternary', … }, section.words)
 * const head = await writer.finish({ kind: 'expert', method: 'full', … })
 * const file = spool.join(head)
 * ```
 */
export class TritWriter {
  readonly #spool: PayloadSpool
  readonly #chunkLog2: number
  readonly #chunk: Uint8Array<ArrayBuffer>
  #filled = 0
  #payloadBytes = 0
  /** Bytes that the open section still lacks; undefined between sections. */
  #missing: number | undefined
  readonly #hashes: Uint8Array[] = []
  readonly #tensors: NewTensor[] = []

  constructor(spool: PayloadSpool, { chunkLog2 = MIN_CHUNK_LOG2 }: { chunkLog2?: number } = {}) {
    this.#spool = spool
    this.#chunkLog2 = chunkLog2
    this.#chunk = new Uint8Array(2 ** chunkLog2)
  }

  /** Appends one tensor's section; its bytes, padded with zeros to a multiple of 4, become `tensor.bytes`. */
  async add(tensor: NewTensorWithoutBytes, section: ArrayBufferView): Promise<void> {
    this.begin(tensor, section.byteLength)
    await this.append(section)
    await this.end()
  }

  /** Starts a section of `bytes` that arrives in pieces through {@link append}. */
  begin(tensor: NewTensorWithoutBytes, bytes: number): void {
    if (this.#missing !== undefined) throw misuse(tensor.name, 'the section before it has not ended')
    this.#missing = bytes
    this.#tensors.push(sized(tensor, bytes))
  }

  /** @throws {TritswapError} `input` for more bytes than {@link begin} announced */
  async append(piece: ArrayBufferView): Promise<void> {
    if (this.#missing === undefined || piece.byteLength > this.#missing) {
      throw misuse(this.#name, `${piece.byteLength} bytes where ${this.#missing ?? 0} were announced`)
    }
    this.#missing -= piece.byteLength
    await this.#take(new Uint8Array(piece.buffer as ArrayBuffer, piece.byteOffset, piece.byteLength))
  }

  /**
   * Ends a section started by {@link begin}.
   * @throws {TritswapError} `input` for fewer bytes than it announced
   */
  async end(): Promise<void> {
    if (this.#missing !== 0)
      throw misuse(this.#name, `${this.#missing ?? 'no section is open, so all'} bytes are missing`)
    this.#missing = undefined
    await this.#take(new Uint8Array((4 - (this.#payloadBytes % 4)) % 4))
  }

  /**
   * Bytes that the file would have with these tensors after those that were added.
   * @throws {TritswapError} as {@link finish}
   */
  sizeWith(
    more: readonly { tensor: NewTensorWithoutBytes; section: ArrayBufferView }[],
    table: Omit<TritTable, 'tensors'>,
  ): number {
    const added = more.map(({ tensor, section }) => sized(tensor, section.byteLength))
    const payload = added.reduce((sum, { bytes }) => sum + bytes, this.#payloadBytes)
    const hashes = new Uint8Array(32 * Math.ceil(payload / 2 ** this.#chunkLog2))
    const head = buildHead(
      { ...table, tensors: [...this.#tensors, ...added] },
      this.#chunkLog2,
      payload,
      hashes,
    )
    return head.length + payload
  }

  /**
   * The head of the file: the root hash is its SHA-256.
   * @throws {TritswapError} `input` when a section is still open, or when a reader would refuse the table
   */
  async finish(table: Omit<TritTable, 'tensors'>): Promise<Uint8Array<ArrayBuffer>> {
    if (this.#missing !== undefined) throw misuse(this.#name, 'its section has not ended')
    if (this.#filled > 0) await this.#flush()
    const hashes = new Uint8Array(this.#hashes.length * 32)
    for (const [i, hash] of this.#hashes.entries()) hashes.set(hash, i * 32)
    return buildHead({ ...table, tensors: this.#tensors }, this.#chunkLog2, this.#payloadBytes, hashes)
  }

  /** Name of the last tensor, for messages. */
  get #name(): string {
    return this.#tensors.at(-1)?.name ?? 'a section'
  }

  async #take(bytes: Uint8Array): Promise<void> {
    let rest = bytes
    while (rest.length > 0) {
      const part = rest.subarray(0, this.#chunk.length - this.#filled)
      this.#chunk.set(part, this.#filled)
      this.#filled += part.length
      this.#payloadBytes += part.length
      rest = rest.subarray(part.length)
      if (this.#filled === this.#chunk.length) await this.#flush()
    }
  }

  async #flush(): Promise<void> {
    const bytes = this.#chunk.slice(0, this.#filled)
    this.#filled = 0
    this.#hashes.push(await sha256(bytes))
    await this.#spool.append(bytes)
  }
}

/** A tensor whose section of `bytes` is padded to whole words. */
function sized(tensor: NewTensorWithoutBytes, bytes: number): NewTensor {
  return { ...tensor, bytes: Math.ceil(bytes / 4) * 4 } as NewTensor
}

function misuse(name: string, why: string): TritswapError {
  return new TritswapError('input', `Cannot write ${name}: ${why}`, { fields: { tensor: name } })
}

export type NewTensorWithoutBytes = DistributiveOmit<NewTensor, 'bytes'>

/** A spool in memory: for experts and tests. */
export function memorySpool() {
  const pieces: Uint8Array<ArrayBuffer>[] = []
  return {
    async append(bytes: Uint8Array<ArrayBuffer>) {
      pieces.push(bytes)
    },
    /** The whole file. */
    join(head: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
      const total = pieces.reduce((sum, piece) => sum + piece.length, head.length)
      const file = new Uint8Array(total)
      let at = 0
      for (const piece of [head, ...pieces]) {
        file.set(piece, at)
        at += piece.length
      }
      return file
    },
  }
}
