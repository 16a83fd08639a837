import { elementOf, type Placement } from './placement.ts'
import type { Target } from './target.ts'

/** Twin of shaders/save.wgsl. */
export function save(
  { placement, weights }: { placement: Placement; weights: number },
  target: Target,
  saved: Uint32Array,
): void {
  for (let first = 0; first < weights; first += target.perWord) {
    let word = target.load(elementOf(placement, first))
    if (target.perWord === 2 && first + 1 < weights)
      word |= target.load(elementOf(placement, first + 1)) << 16
    saved[first / target.perWord] = word
  }
}
