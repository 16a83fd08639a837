import { ONNX_TYPE } from '../../format/dtype.ts'
import { halvesToFloats } from '../../format/float16.ts'
import type { InitializerData } from '../proto/initializer_data.ts'
import type { TensorProto } from '../proto/onnx_pb.ts'
import { type ExternalFiles, locateBytes } from '../proto/tensor_bytes.ts'
import { countOf, dimsOf, floatType } from '../proto/tensors.ts'

/** Integers q with values (q − zero point) · scale. */
export interface Affine {
  quantized: TensorProto
  /** One, or one for each output of the weight. */
  scale: TensorProto
  zeroPoint?: TensorProto
}

/** The float values of integers, computed as they are read. */
export function affineData(
  name: string,
  { quantized, scale, zeroPoint }: Affine,
  external: ExternalFiles,
): InitializerData {
  const dims = dimsOf(quantized)
  const length = countOf(quantized)
  const signed = quantized.dataType === ONNX_TYPE.int8
  // Outputs are the columns of a matrix for MatMul, and come first in a kernel for Conv.
  const outputs = dims.length === 2 ? dims[1] : dims[0]
  const outputOf =
    dims.length === 2
      ? (at: number) => at % dims[1]
      : (at: number) => Math.floor(at / (length / Math.max(1, dims[0])))
  const bytesOf = async (tensor: TensorProto, first = 0, count?: number) => {
    const { source, offset, bytes } = locateBytes(tensor, external)
    return (await source.read(offset + first, count ?? bytes)).slice()
  }
  let constants: Promise<{ scales: Float32Array; zeros: Int8Array | Uint8Array }> | undefined
  const loadConstants = async () => {
    const { buffer } = await bytesOf(scale)
    const scales =
      floatType(scale) === 'float16' ? halvesToFloats(new Uint16Array(buffer)) : new Float32Array(buffer)
    const zeros = zeroPoint === undefined ? new Uint8Array(1) : await bytesOf(zeroPoint)
    return { scales, zeros: signed ? new Int8Array(zeros.buffer) : zeros }
  }
  return {
    dtype: 'float32',
    dims,
    length,
    offset: 0,
    quantized: true,
    source: {
      name,
      size: async () => length * 4,
      async read(offset, bytes) {
        constants ??= loadConstants()
        const { scales, zeros } = await constants
        const first = offset / 4
        const packed = await bytesOf(quantized, first, bytes / 4)
        const values = signed ? new Int8Array(packed.buffer) : packed
        const of = <T extends ArrayLike<number>>(list: T, at: number) =>
          list[list.length === outputs ? outputOf(at) : 0]
        const floats = Float32Array.from(
          values,
          (value, i) => (value - of(zeros, first + i)) * of(scales, first + i),
        )
        return new Uint8Array(floats.buffer)
      },
    },
  }
}
