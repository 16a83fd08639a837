import type { TritTensor } from '../format/index.ts'

/** Sections on their way to the GPU that no kernel reads as they are stored: the CPU takes each once it is whole. */
export class OpaqueSections {
  readonly #tensors: readonly TritTensor[]
  readonly #open = new Map<TritTensor, { bytes: Uint8Array<ArrayBuffer>; missing: number }>()

  constructor(tensors: readonly TritTensor[]) {
    this.#tensors = tensors
  }

  /** Takes payload bytes, each once. @returns the sections that they complete */
  *take(
    payloadOffset: number,
    bytes: Uint8Array<ArrayBuffer>,
  ): Generator<{ tensor: TritTensor; section: Uint8Array<ArrayBuffer> }, void, void> {
    for (const tensor of this.#tensors) {
      const from = Math.max(payloadOffset, tensor.offset)
      const to = Math.min(payloadOffset + bytes.length, tensor.offset + tensor.bytes)
      if (from >= to) continue
      let section = this.#open.get(tensor)
      if (section === undefined) {
        section = { bytes: new Uint8Array(tensor.bytes), missing: tensor.bytes }
        this.#open.set(tensor, section)
      }
      section.bytes.set(bytes.subarray(from - payloadOffset, to - payloadOffset), from - tensor.offset)
      section.missing -= to - from
      if (section.missing > 0) continue
      this.#open.delete(tensor)
      yield { tensor, section: section.bytes }
    }
  }
}
