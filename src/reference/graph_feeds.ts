/**
 * Graph inputs filled from the tensors of a prepared base, as its bindings say.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { formOf } from '../format/codecs/index.ts'
import { type NBitsComponent, nbitsLayout } from '../format/codecs/nbits_decode.ts'
import type { InputDtype } from '../format/dtype.ts'
import { floatsToHalves } from '../format/float16.ts'
import { ELEMENT_BYTES, type HoistedInput, tilingOf, weightsOf } from '../format/index.ts'
import type { WeightTable } from './weight_table.ts'

/** A graph input as an onnxruntime tensor on the CPU takes it; f16 as raw bits. */
export interface CpuFeed {
  dtype: InputDtype
  dims: readonly number[]
  data: Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer> | Uint8Array<ArrayBuffer>
}

/** @param valuesOf - a tensor in checkpoint order */
export function fillFloats(
  { dtype, dims, parts }: HoistedInput,
  table: WeightTable,
  valuesOf: (tensor: string) => Float32Array,
): CpuFeed {
  const floats = new Float32Array(weightsOf(dims))
  for (const { tensor, offset, rowStride, colStride } of parts) {
    const from = valuesOf(tensor)
    const { rows, cols } = tilingOf(table.shapeOf(tensor))
    for (let row = 0, i = 0; row < rows; row++) {
      for (let col = 0, at = offset + row * rowStride; col < cols; col++, at += colStride)
        floats[at] = from[i++]
    }
  }
  return { dtype, dims, data: dtype === 'float32' ? floats : floatsToHalves(floats) }
}

/**
 * @param sectionOf - a tensor as the weights file has it
 * @throws {TritswapError} `mapping` where one of its tensors is changed, as quantized weights cannot be
 */
export function fillRaw(
  { dtype, dims, parts }: HoistedInput,
  raw: NBitsComponent,
  table: WeightTable,
  sectionOf: (tensor: string) => Uint8Array,
  isChanged: (target: string) => boolean,
): CpuFeed {
  const bytes = new Uint8Array(weightsOf(dims) * ELEMENT_BYTES[dtype])
  for (const { tensor: name, offset } of parts) {
    const tensor = table.tensor(name)
    const form = formOf(tensor)
    if (isChanged(tensor.target) || form.kind !== 'nbits') {
      throw new TritswapError('mapping', `Cannot change ${name}: its weights stay quantized in this base`, {
        fields: { tensor: name, quantized: true },
      })
    }
    const component = nbitsLayout(tensor.shape, form.code).components[raw]!
    const section = sectionOf(name)
    bytes.set(
      section.subarray(component.offset, component.offset + component.bytes),
      offset * ELEMENT_BYTES[dtype],
    )
  }
  const views = { float32: Float32Array, float16: Uint16Array, uint8: Uint8Array }
  return { dtype, dims, data: new views[dtype](bytes.buffer) }
}
