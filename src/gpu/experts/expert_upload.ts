import { TritswapError } from '../../errors.ts'
import { decodeStepsOf, decodeTermsOf, decodeValues } from '../../format/codecs/index.ts'
import { checkFiniteValues } from '../../format/finite.ts'
import type { TritTensor } from '../../format/index.ts'
import { OpaqueSections } from '../opaque_sections.ts'
import { packSteps } from '../steps_form.ts'
import { isDecoded, streamForm } from '../stream_form.ts'
import { packTerms } from '../terms_form.ts'
import type { Arena, Span } from './arena.ts'
import { type ExpertHead, type ExpertLayout, ResidentExpert } from './resident_expert.ts'
import type { StreamIndex } from './stream_index.ts'

export interface ExpertUploadParts {
  arena: Arena
  head: ExpertHead
  layout: ExpertLayout
  /** Of the arena; it belongs to the expert once the upload has finished. */
  span: Span
  index: StreamIndex
  /** Called for payload bytes that are written. */
  onWrite(bytes: number): void
  /** Called once, when the upload has finished or failed or is cancelled. */
  onEnd(expert: ResidentExpert | undefined): void
}

/** An expert on its way into VRAM. */
export class ExpertUpload {
  readonly #parts: ExpertUploadParts
  /** Payload bytes that each tensor still lacks. */
  readonly #missing: number[]
  readonly #opaque: OpaqueSections
  #written = 0
  #open = true

  constructor(parts: ExpertUploadParts) {
    this.#parts = parts
    const { tensors } = parts.head.table
    this.#missing = tensors.map(({ bytes }) => bytes)
    this.#opaque = new OpaqueSections(tensors.filter(isDecoded))
    for (const [i, bytes] of this.#missing.entries()) if (bytes === 0) this.#startIndex(i)
  }

  /** VRAM that it takes. */
  get bytes(): number {
    return this.#parts.span.words * 4
  }

  /**
   * Writes verified payload bytes, in any order, each once; offsets and lengths are multiples of 4. Does nothing once
   * the upload has ended.
   * @throws {TritswapError} `format` for a section that the CPU decodes and that contradicts the table
   */
  write(payloadOffset: number, bytes: Uint8Array<ArrayBuffer>): void {
    if (!this.#open) return
    const { arena, head, layout, span, index, onWrite } = this.#parts
    const end = payloadOffset + bytes.length
    if (end > head.payloadBytes) {
      throw new TritswapError(
        'input',
        `Cannot upload bytes ${payloadOffset}–${end}: the payload has ${head.payloadBytes}`,
      )
    }
    index.write(arena.buffer, span.first * 4 + payloadOffset, bytes)
    for (const { tensor, section } of this.#opaque.take(payloadOffset, bytes)) {
      const { words } = layout.streams[head.table.tensors.indexOf(tensor)]
      index.write(arena.buffer, (span.first + words) * 4, this.#decoded(tensor, section))
    }
    this.#written += bytes.length
    for (const [i, tensor] of head.table.tensors.entries()) {
      const covered = Math.min(end, tensor.offset + tensor.bytes) - Math.max(payloadOffset, tensor.offset)
      if (covered <= 0) continue
      this.#missing[i] -= covered
      if (this.#missing[i] === 0) this.#startIndex(i)
    }
    // The caller may do other things before it calls `finish`; the GPU indexes meanwhile.
    if (this.#written === head.payloadBytes) index.flush(arena.buffer, span.first)
    onWrite(bytes.length)
  }

  /**
   * Waits until the GPU has indexed and validated all streams, which it starts to do as they arrive. The expert has
   * one reference, the caller's.
   * @throws {TritswapError} as {@link StreamIndex.check}, `input` if bytes are missing, `released` if the
   * upload was cancelled or the store destroyed; nothing is left behind
   */
  async finish(): Promise<ResidentExpert> {
    const { arena, head, layout, span, index } = this.#parts
    try {
      this.#checkOpen()
      this.#checkComplete()
      index.flush(arena.buffer, span.first)
      await index.check()
      this.#checkOpen()
    } catch (error) {
      this.cancel()
      throw error
    }
    const expert = new ResidentExpert(head, span, layout)
    this.#end(expert)
    return expert
  }

  /** Gives the space back; does nothing once the upload has ended. */
  cancel(): void {
    if (!this.#open) return
    this.#parts.arena.free(this.#parts.span)
    this.#end(undefined)
  }

  #end(expert: ResidentExpert | undefined): void {
    this.#open = false
    this.#parts.index.destroy()
    this.#parts.onEnd(expert)
  }

  /** What kernels read of a section that they do not read as it is. */
  #decoded(tensor: TritTensor, section: Uint8Array<ArrayBuffer>): ArrayBufferView<ArrayBuffer> {
    const terms = decodeTermsOf(tensor, section)
    if (terms !== undefined) return packTerms(tensor, terms)
    const form = streamForm(tensor)
    if (form.kind === 'steps') return packSteps(tensor.shape, form, decodeStepsOf(tensor, section)!)
    const { table, rootHash } = this.#parts.head
    const values = decodeValues(tensor, section)
    checkFiniteValues(tensor, values, table.label ?? rootHash.slice(0, 12))
    return values
  }

  /** Indexes a tensor whose bytes are all there. */
  #startIndex(i: number): void {
    const { arena, head, layout, span, index } = this.#parts
    const tensor = head.table.tensors[i]
    const form = streamForm(tensor)
    if (form.kind !== 'golomb') return
    const { name, shape, bytes } = tensor
    const stream = { tensor: { name, shape, bytes, ...form.code }, span: layout.streams[i] }
    index.add(stream, arena.buffer, span.first)
  }

  #checkOpen(): void {
    if (!this.#open) throw new TritswapError('released', 'Cannot finish an upload that was cancelled')
  }

  #checkComplete(): void {
    const { table, payloadBytes } = this.#parts.head
    const partial = this.#missing.findIndex((bytes) => bytes !== 0)
    if (partial < 0) return
    throw new TritswapError(
      'input',
      `Cannot finish an upload: ${this.#written} of ${payloadBytes} bytes were written, and those of ${table.tensors[partial].name} not once each`,
    )
  }
}
