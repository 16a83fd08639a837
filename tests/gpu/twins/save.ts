import { elementOf, type Placement } from './placement.ts'
import type { Target } from './target.ts'

/** `Save` of shaders/save.wgsl. */
export interface Save {
  placement: Placement
  weights: number
  half: number
}

/** Twin of shaders/save.wgsl. */
export function save({ placement, weights, half }: Save, target: Target, saved: Uint32Array): void {
  const raw = (flat: number) => target.load(elementOf(placement, flat))
  const halfAt = (flat: number) => (flat < weights ? target.halfOf(raw(flat)) : 0)
  for (let first = 0; first < weights; first += 1 + half)
    saved[first / (1 + half)] = half === 1 ? (halfAt(first) | (halfAt(first + 1) << 16)) >>> 0 : raw(first)
}
