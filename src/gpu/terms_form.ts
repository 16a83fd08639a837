/**
 * Tensors of ternary rank-1 terms as kernels read them: the scales in f32, then the vectors over rows and over columns with
 * sixteen entries a word, each entry two bits in two's complement. Every vector starts on a word of its own.
 *
 * @module
 */
import type { TermVectors } from '../format/contributions.ts'
import { type Terms, type TritTensor, tilingOf } from '../format/index.ts'
import type { StreamParams, StreamSpan } from './job.ts'
import { shaderConstants } from './shader_constants.ts'

const { TERMS } = shaderConstants('job', ['TERMS'])
const { ENTRIES_PER_WORD } = shaderConstants('term_vectors', ['ENTRIES_PER_WORD'])

/** A tensor of terms. */
type TermsTensor = Pick<TritTensor, 'shape'> & { terms?: number }

/** Words of each part, and where it starts. */
export function termsLayout({ shape, terms = 0 }: TermsTensor) {
  const { rows, cols } = tilingOf(shape)
  const x = terms
  const y = x + terms * vectorWords(rows)
  return { rows, cols, terms, x, y, words: y + terms * vectorWords(cols) }
}

/** Words of a vector. */
export function vectorWords(entries: number): number {
  return Math.ceil(entries / ENTRIES_PER_WORD)
}

/** The words of a tensor in the arena. */
export function packTerms(tensor: TermsTensor, { scales, x, y }: Terms): Uint32Array<ArrayBuffer> {
  const layout = termsLayout(tensor)
  const words = new Uint32Array(layout.words)
  new Float32Array(words.buffer).set(scales)
  const pack = (entries: Int8Array, length: number, first: number) => {
    const step = vectorWords(length)
    for (let at = 0; at < entries.length; at++) {
      const [term, i] = [Math.floor(at / length), at % length]
      words[first + term * step + Math.floor(i / ENTRIES_PER_WORD)] |=
        (entries[at] & 3) << (2 * (i % ENTRIES_PER_WORD))
    }
  }
  pack(x, layout.rows, layout.x)
  pack(y, layout.cols, layout.y)
  return words
}

/** One side of the terms as a matrix: terms × rows, or terms × columns. */
export function vectorsShape(tensor: TermsTensor, vectors: TermVectors): [number, number] {
  const { rows, cols, terms } = termsLayout(tensor)
  return [terms, vectors === 'x' ? rows : cols]
}

/** `Stream` of shaders/shared/job.wgsl for one side of the terms; the vectors over rows come times their scales. */
export function vectorsParams(
  tensor: TermsTensor,
  { words }: StreamSpan,
  weight: number,
  vectors: TermVectors,
): StreamParams {
  const { rows, cols, x, y } = termsLayout(tensor)
  const [first, length] = vectors === 'x' ? [x, rows] : [y, cols]
  const code = { words: words + first, m: length, low: words, cut: vectors === 'x' ? 1 : 0 }
  return { code, index: 0, codec: TERMS, value: weight, journal: 0 }
}
