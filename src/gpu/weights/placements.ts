import { TritswapError } from '../../errors.ts'
import type { HoistedInput, Placement } from '../../format/bindings.ts'
import { formOf } from '../../format/codecs/index.ts'
import { type NBitsComponent, nbitsLayout } from '../../format/codecs/nbits_decode.ts'
import { ELEMENT_BYTES, type TritTensor, tilingOf, weightsOf } from '../../format/index.ts'
import type { TargetDtype } from '../target.ts'

/** One placement of a checkpoint tensor in the store. */
export interface BufferPlacement extends Placement {
  input: string
  dtype: TargetDtype
  buffer: GPUBuffer
}

/** Where one component of a quantized tensor lies as it is in the file. */
export interface QuantizedPlacement {
  input: string
  component: NBitsComponent
  buffer: GPUBuffer
  /** Bytes; a multiple of 4. */
  offset: number
}

/** Where the tensors of a base lie in the buffers of graph inputs. */
export interface WeightPlacements {
  /** By name: where the values of a tensor go. */
  ofTensor: ReadonlyMap<string, readonly BufferPlacement[]>
  /** By target: where a change of it goes. The two differ where a tied pair is quantized on one side only. */
  ofTarget: ReadonlyMap<string, readonly BufferPlacement[]>
  /** By name: where the components of a tensor go that stays quantized. */
  quantized: ReadonlyMap<string, readonly QuantizedPlacement[]>
  /** Targets of those tensors. */
  quantizedTargets: ReadonlySet<string>
  /** Of the weights that are floats. */
  dtypes: ReadonlySet<TargetDtype>
}

/** @param buffers - one for each input; the inputs have passed {@link checkInput} */
export function placementsIn(
  inputs: readonly HoistedInput[],
  buffers: readonly GPUBuffer[],
  tensors: ReadonlyMap<string, TritTensor>,
): WeightPlacements {
  const ofTensor = new Map<string, BufferPlacement[]>()
  const ofTarget = new Map<string, BufferPlacement[]>()
  const quantized = new Map<string, QuantizedPlacement[]>()
  const quantizedTargets = new Set<string>()
  const dtypes = new Set<TargetDtype>()
  for (const [i, { name, dtype, raw, parts }] of inputs.entries()) {
    for (const part of parts) {
      const { target } = tensors.get(part.tensor)!
      if (raw !== undefined) {
        const offset = part.offset * ELEMENT_BYTES[dtype]
        addTo(quantized, part.tensor, { input: name, component: raw, buffer: buffers[i], offset })
        quantizedTargets.add(target)
        continue
      }
      const placement = { ...part, input: name, dtype: dtype as TargetDtype, buffer: buffers[i] }
      dtypes.add(placement.dtype)
      addTo(ofTensor, part.tensor, placement)
      addTo(ofTarget, target, placement)
    }
  }
  return { ofTensor, ofTarget, quantized, quantizedTargets, dtypes }
}

function addTo<T>(lists: Map<string, T[]>, key: string, item: T): void {
  const list = lists.get(key)
  if (list === undefined) lists.set(key, [item])
  else list.push(item)
}

/** Bytes of an input without padding. */
export function bytesOf({ dims, dtype }: Pick<HoistedInput, 'dims' | 'dtype'>): number {
  return weightsOf(dims) * ELEMENT_BYTES[dtype]
}

/**
 * Checks an input, which comes from a file: its tensors exist, and none of their elements lies outside its buffer.
 * @throws {TritswapError} `mapping` for a tensor that is missing, `format` for the rest
 */
export function checkInput(
  { name, dims, dtype, raw, parts }: HoistedInput,
  tensors: ReadonlyMap<string, TritTensor>,
): void {
  const elements = weightsOf(dims)
  for (const { tensor, offset, rowStride, colStride } of parts) {
    const found = tensors.get(tensor)
    if (found === undefined) {
      throw new TritswapError(
        'mapping',
        `Cannot feed ${name}: its tensor ${tensor} is not in the base container`,
        { fields: { input: name, tensor } },
      )
    }
    const form = formOf(found)
    const component = raw && form.kind === 'nbits' && nbitsLayout(found.shape, form.code).components[raw]
    if (raw ? !component || component.elementBytes !== ELEMENT_BYTES[dtype] : dtype === 'uint8') {
      throw new TritswapError(
        'format',
        `Cannot feed ${name}: ${tensor} has no ${raw ?? 'values'} of ${dtype}`,
        { fields: { input: name, tensor, raw, dtype } },
      )
    }
    const { rows, cols } = component
      ? { rows: component.bytes / component.elementBytes / component.rowLength, cols: component.rowLength }
      : tilingOf(found.shape)
    const last = offset + (rows - 1) * rowStride + (cols - 1) * colStride
    const whole = [offset, rowStride, colStride].every((value) => Number.isInteger(value) && value >= 0)
    if (!whole || last >= elements) {
      throw new TritswapError(
        'format',
        `Cannot feed ${name}: ${tensor} would reach element ${last} of ${elements}`,
        { fields: { input: name, tensor, last, elements } },
      )
    }
  }
}
