/**
 * The weights of a hoisted model out of another file than its graphs: as a GGUF quantized them, for one.
 *
 * @module
 */
import { TritswapError } from '../../errors.ts'
import type { NBitsCode, NBitsComponent } from '../../format/codecs/nbits_decode.ts'
import { weightsOf } from '../../format/index.ts'
import type { ByteSource } from '../../source/source.ts'
import { placementOf } from '../resolve/placements.ts'
import type { HoistedModel } from './hoisted_model.ts'
import type { HoistedTensor } from './roundings.ts'

/** A tensor of a checkpoint, as floats in flat row-major order or quantized by blocks. */
export type StoredWeight = { shape: readonly number[] } & (
  | { dtype: 'float16' | 'float32'; source: ByteSource }
  | { code: NBitsCode; components: Partial<Record<NBitsComponent, ByteSource>> }
)

/** Weights by the names of the checkpoint. */
export interface StoredWeights {
  /** For messages. */
  name: string
  weights: ReadonlyMap<string, StoredWeight>
}

/**
 * The same graphs over other weights.
 * @throws {TritswapError} `input` where a tensor is missing on one side, or has another shape
 */
export function withStoredWeights(model: HoistedModel, { name, weights }: StoredWeights): HoistedModel {
  const tensors = new Map<string, HoistedTensor>()
  for (const [tensor, hoisted] of model.tensors) {
    const stored = weights.get(hoisted.target)
    if (stored === undefined || stored.shape.join() !== hoisted.shape.join()) {
      const found = stored === undefined ? 'it has no such tensor' : `there it is [${stored.shape}]`
      throw new TritswapError(
        'input',
        `Cannot take ${hoisted.target} [${hoisted.shape}] from ${name}: ${found}; give the weights of the model that the graphs were exported from`,
        { fields: { name, tensor: hoisted.target, expected: hoisted.shape, found: stored?.shape } },
      )
    }
    tensors.set(tensor, filledWith(stored, hoisted))
  }
  const known = new Set(Array.from(model.tensors.values(), ({ target }) => target))
  const strange = [...weights.keys()].find((tensor) => !known.has(tensor))
  if (strange !== undefined) {
    throw new TritswapError(
      'input',
      `Cannot take the weights of ${name}: its ${strange} has no place in the graphs; give the weights of the model that they were exported from`,
      { fields: { name, tensor: strange } },
    )
  }
  return { ...model, tensors }
}

function filledWith(stored: StoredWeight, { shape, target, home }: HoistedTensor): HoistedTensor {
  if ('code' in stored) {
    const { code, components } = stored
    const placed = Object.entries(components).map(([component, source]) => [component, { source, offset: 0 }])
    return {
      shape,
      target,
      home,
      quantized: { code, matrix: { components: Object.fromEntries(placed) }, firstRow: 0 },
    }
  }
  const { dtype, source } = stored
  const data = { dtype, dims: shape, length: weightsOf(shape), source, offset: 0 }
  return { shape, target, home: { data, part: placementOf(target, shape, 'checkpoint') } }
}
