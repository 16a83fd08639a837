import { elementOf, type Placement } from './placement.ts'
import type { Target } from './target.ts'

/** Twin of shaders/restore.wgsl. */
export function restore(
  { placement, weights }: { placement: Placement; weights: number },
  target: Target,
  saved: Uint32Array,
): void {
  for (let flat = 0; flat < weights; flat++) {
    const word = saved[Math.floor(flat / target.perWord)]
    target.store(
      elementOf(placement, flat),
      target.perWord === 1 ? word : (word >>> ((flat & 1) << 4)) & 0xffff,
    )
  }
}
