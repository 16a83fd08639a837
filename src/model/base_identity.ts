import { SKETCH_VALUES, type TritTensor } from '../format/index.ts'
import type { WeightStore } from '../gpu/index.ts'
import type { IntegerSite } from '../onnx/index.ts'
import type { BaseIdentity } from './base_check.ts'
import { blockSizesOf, quantizedDtypes } from './weight_precision.ts'

/**
 * What `checkBase` needs to know of a base, read from its weights in VRAM before any expert has changed them.
 *
 * @param all - tensors of the base's table
 * @param integers - weights that stay integers in its graphs: shapes and sketches come with those
 */
export async function identify(
  weights: Pick<WeightStore, 'sketchValues'>,
  base: Pick<BaseIdentity, 'name' | 'fingerprint' | 'dtype' | 'isUnused'>,
  all: readonly TritTensor[],
  integers: readonly IntegerSite[],
): Promise<BaseIdentity> {
  // A tensor that rounds another one differently is changed under that one's name.
  const tensors = all.filter(({ name, target }) => name === target)
  const names = tensors.map(({ name }) => name)
  const values = await weights.sketchValues(names)
  const shapes = new Map(tensors.map(({ name, shape }) => [name, shape]))
  const sketches = new Map<string, ArrayLike<number>>(
    names.map((name, i) => [name, values.subarray(i * SKETCH_VALUES, (i + 1) * SKETCH_VALUES)]),
  )
  const dtypes = quantizedDtypes(tensors)
  for (const { target, shape, sketch } of integers.flatMap(({ parts }) => parts)) {
    if (shapes.has(target)) continue
    sketches.set(target, sketch)
    shapes.set(target, shape)
    dtypes.set(target, 'q8')
  }
  return { ...base, shapes, sketches, dtypes, blockSizes: blockSizesOf(tensors) }
}
