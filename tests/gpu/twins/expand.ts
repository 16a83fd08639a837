import { elementOf, type Placement } from './placement.ts'
import type { Target } from './target.ts'

/** `Expand` of shaders/expand.wgsl. */
export interface Expand {
  placement: Placement
  word: number
  words: number
  first: number
  end: number
  half: number
}

/** Twin of shaders/expand.wgsl. */
export function expand(
  { placement, word, words, first, end, half }: Expand,
  target: Target,
  source: Uint32Array,
): void {
  const put = (flat: number, raw: number) => {
    if (flat < end) target.store(elementOf(placement, flat), raw)
  }
  for (let i = 0; i < words; i++) {
    const bits = source[word + i]
    if (half === 1) {
      put(first + 2 * i, target.rawFromHalf(bits & 0xffff))
      put(first + 2 * i + 1, target.rawFromHalf(bits >>> 16))
    } else {
      put(first + i, target.rawFromFloat(bits))
    }
  }
}
