import { fromHalf } from '../../format/float16.ts'
import { elementOf, type Place } from './place.ts'
import { floatOf, type Target } from './target.ts'

/** `Dequantize` of shaders/dequantize.wgsl. */
export interface Dequantize {
  place: Place
  rows: number
  row_words: number
  block_words: number
  half: number
}

/** Twin of shaders/dequantize.wgsl. */
export function dequantize(
  params: Dequantize,
  target: Target,
  quantized: Uint32Array,
  scales: Uint32Array,
): void {
  const { place, rows, row_words, block_words, half } = params
  for (let word = 0; word < rows * row_words; word++) {
    const row = Math.floor(word / row_words)
    const block = Math.floor(word / block_words)
    const scale =
      half === 1 ? fromHalf((scales[block >>> 1] >>> ((block & 1) << 4)) & 0xffff) : floatOf(scales[block])
    for (let i = 0; i < 8; i++) {
      const col = (word % row_words) * 8 + i
      if (col >= place.cols) continue
      const value = Math.fround(scale * (((quantized[word] >>> (4 * i)) & 15) - 8))
      target.store(elementOf(place, row * place.cols + col), target.rawOf(value))
    }
  }
}
