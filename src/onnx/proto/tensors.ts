import { TritswapError } from '../../errors.ts'
import { ELEMENT_BYTES, type FloatInputDtype, type InputDtype, ONNX_TYPE } from '../../format/dtype.ts'
import { weightsOf } from '../../format/index.ts'
import type { TensorProto } from './onnx_pb.ts'

/** Float types that graph inputs and WebGPU kernels take; undefined for all others. */
export function floatType(tensor: TensorProto): FloatInputDtype | undefined {
  if (tensor.dataType === ONNX_TYPE.float32) return 'float32'
  if (tensor.dataType === ONNX_TYPE.float16) return 'float16'
  return undefined
}

/** Type of the graph input that takes a tensor as it is stored: integers go as bytes. */
export function storedType(tensor: TensorProto): InputDtype {
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
