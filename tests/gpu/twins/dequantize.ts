import { type NBits, type NBitsWords, nbitsReader } from './nbits.ts'
import { elementOf, type Placement } from './placement.ts'
import type { Target } from './target.ts'

/** `Dequantize` of shaders/dequantize.wgsl. */
export interface Dequantize {
  placement: Placement
  nbits: NBits
}

/** Twin of shaders/dequantize.wgsl. */
export function dequantize({ placement, nbits }: Dequantize, target: Target, words: NBitsWords): void {
  const weight = nbitsReader(nbits, words)
  for (let row = 0; row < nbits.rows; row++) {
    for (let col = 0; col < nbits.cols; col++) {
      target.store(elementOf(placement, row * nbits.cols + col), target.rawOf(weight(row, col)))
    }
  }
}
