/**
 * Figures of a model on a text, summed over windows.
 *
 * @module
 */
import { closeness, scoreWindow, type WindowLogits } from '../model/score.ts'

export interface Score {
  /** Bits per UTF-8 byte. */
  bpb: number
  /** Fraction of positions where the model ranks the same token first as the reference. */
  agreement?: number
  /** KL(reference ‖ model), bits per token. */
  kl?: number
}

export class ScoreSum {
  #bits = 0
  #bytes = 0
  #positions = 0
  #agreeing = 0
  #klBits = 0

  /**
   * Adds a window.
   * @param bytes - UTF-8 bytes of the predicted tokens
   * @param reference - logits of the model to compare with
   */
  add(
    { data, vocabulary }: WindowLogits,
    tokens: readonly number[],
    bytes: number,
    reference?: WindowLogits,
  ): void {
    this.#bits += scoreWindow(data, vocabulary, tokens).bits
    this.#bytes += bytes
    if (reference === undefined) return
    const { positions, agreeing, klBits } = closeness(reference, { data, vocabulary }, tokens.length)
    this.#positions += positions
    this.#agreeing += agreeing
    this.#klBits += klBits
  }

  score(): Score {
    const bpb = this.#bits / this.#bytes
    if (this.#positions === 0) return { bpb }
    return { bpb, agreement: this.#agreeing / this.#positions, kl: this.#klBits / this.#positions }
  }
}

/**
 * Fraction of a fine-tuning's gain over the base that a variant retains; undefined where it gained nothing.
 * All three in bits per byte.
 */
export function gainRetained(base: number, finetuned: number, variant: number): number | undefined {
  return base > finetuned ? (base - variant) / (base - finetuned) : undefined
}
