import { type Blocks, type BlocksWords, blocksOf } from './blocks.ts'
import { elementOf, type Place } from './place.ts'
import type { Target } from './target.ts'

/** `Dequantize` of shaders/dequantize.wgsl. */
export interface Dequantize {
  place: Place
  blocks: Blocks
}

/** Twin of shaders/dequantize.wgsl. */
export function dequantize({ place, blocks }: Dequantize, target: Target, words: BlocksWords): void {
  const weight = blocksOf(blocks, words)
  for (let row = 0; row < blocks.rows; row++) {
    for (let col = 0; col < blocks.cols; col++) {
      target.store(elementOf(place, row * blocks.cols + col), target.rawOf(weight(row, col)))
    }
  }
}
