import { fromHalf } from '../../../src/format/float16.ts'
import { elementOf, type Placement } from './placement.ts'
import { floatOf, type Target } from './target.ts'

/** `Add` of shaders/add.wgsl. */
export interface Add {
  placement: Placement
  weights: number
  row_values: number
  col_values: number
  deltas: number
  delta: readonly { words: number; half: number; weight: number }[]
}

/** Twin of shaders/add.wgsl. */
export function add(params: Add, target: Target, arena: Uint32Array): void {
  const { placement, row_values, col_values } = params
  for (let flat = 0; flat < params.weights; flat++) {
    const row = Math.floor(flat / placement.cols)
    const at = row * row_values + (flat - row * placement.cols) * col_values
    const deltas = params.delta.slice(0, params.deltas).map(({ words, half, weight }) => {
      const bits = (arena[words + (at >>> 1)] >>> ((at & 1) << 4)) & 0xffff
      const value = half === 1 ? fromHalf(bits) : floatOf(arena[words + at])
      return Math.fround(Math.fround(weight) * value)
    })
    const sum = deltas.reduce((all, delta) => Math.fround(all + delta))
    const element = elementOf(placement, flat)
    target.store(element, target.rawOf(Math.fround(target.valueOf(target.load(element)) + sum)))
  }
}
