import { TritswapError } from '../../errors.ts'
import { ELEMENT_BYTES, type HoistedInput, weightsOf } from '../../format/index.ts'
import { type TensorProto, TensorProto_DataType } from './onnx_pb.ts'

/** Element types of graph inputs, as ONNX numbers them. */
export const ONNX_TYPE: Readonly<Record<HoistedInput['dtype'], TensorProto_DataType>> = {
  float32: TensorProto_DataType.FLOAT,
  float16: TensorProto_DataType.FLOAT16,
  uint8: TensorProto_DataType.UINT8,
}

/** Float types that graph inputs and WebGPU kernels take; undefined for all others. */
export function floatType(tensor: TensorProto): 'float32' | 'float16' | undefined {
  if (tensor.dataType === TensorProto_DataType.FLOAT) return 'float32'
  if (tensor.dataType === TensorProto_DataType.FLOAT16) return 'float16'
  return undefined
}

/** Type of the graph input that takes a tensor as it is stored: integers go as bytes. */
export function storedType(tensor: TensorProto): HoistedInput['dtype'] {
  return floatType(tensor) ?? 'uint8'
}

export function dimsOf(tensor: TensorProto): number[] {
  return tensor.dims.map(Number)
}

/** Elements of a tensor. */
export function countOf(tensor: TensorProto): number {
  return weightsOf(dimsOf(tensor))
}

/** @throws {TritswapError} `input` where the bytes found for a tensor are not as many as its shape needs */
export function checkBytes(tensor: TensorProto, found: number): void {
  const expected = countOf(tensor) * ELEMENT_BYTES[storedType(tensor)]
  if (found === expected) return
  throw new TritswapError(
    'input',
    `Cannot read ${tensor.name}: its shape ${dimsOf(tensor).join('×')} needs ${expected} bytes, found ${found}`,
    { fields: { name: tensor.name, expected, found } },
  )
}
