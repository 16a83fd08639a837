import { TritswapError } from '../../errors.ts'
import type { NBitsCode, NBitsComponent } from '../../format/codecs/nbits_decode.ts'
import type { InputDtype } from '../../format/dtype.ts'
import { ELEMENT_BYTES } from '../../format/index.ts'
import type { ByteSource } from '../../source/source.ts'
import type { TensorProto } from './onnx_pb.ts'
import { type ExternalFiles, locateBytes, type RawInitializer } from './tensor_bytes.ts'
import { checkBytes, countOf, dimsOf, floatType } from './tensors.ts'

/** `checkpoint`: row-major, as in the checkpoint. `transposed`: the matrix as ONNX MatMul wants it. */
export type Layout = 'checkpoint' | 'transposed'

/** Where the elements of an initializer lie, flat and little-endian. Nothing is read to make one. */
export interface InitializerData {
  dtype: InputDtype
  dims: readonly number[]
  /** Elements. */
  length: number
  source: ByteSource
  /** First byte in the source. */
  offset: number
  /** Computed from a quantized weight: no checkpoint has exactly these values. */
  quantized?: true
  /** What they are computed from, if that is quantized by blocks. */
  matrix?: QuantizedMatrix
}

/** The initializers of a matrix [out, in] that is quantized by blocks. */
export interface QuantizedMatrix extends Omit<NBitsCode, 'transposed'> {
  rows: number
  cols: number
  /** Of the float initializer that stands for it. */
  layout: Layout
  components: Partial<Record<NBitsComponent, RawInitializer>> & Record<'weights' | 'scales', RawInitializer>
}

/**
 * Locates the data of a float initializer, in whichever way it is stored.
 * @throws {TritswapError} `input` when its size does not agree with its shape or its file lies outside the folder
 */
export function initializerData(tensor: TensorProto, external: ExternalFiles): InitializerData {
  const dtype = floatType(tensor)
  if (dtype === undefined) {
    throw new TritswapError(
      'unsupported',
      `Cannot take ${tensor.name} as a weight: its type is ${tensor.dataType}`,
      { fields: { name: tensor.name, type: tensor.dataType } },
    )
  }
  const { source, offset, bytes } = locateBytes(tensor, external)
  checkBytes(tensor, bytes)
  return { dtype, dims: dimsOf(tensor), length: countOf(tensor), source, offset }
}

/** Elements `[first, first + count)` as stored: f32 values or f16 bits. */
export async function readElements(
  data: InitializerData,
  first: number,
  count: number,
): Promise<Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer>> {
  const size = ELEMENT_BYTES[data.dtype]
  const bytes = await data.source.read(data.offset + first * size, count * size)
  const aligned = bytes.byteOffset % size === 0 ? bytes : bytes.slice()
  return data.dtype === 'float32'
    ? new Float32Array(aligned.buffer, aligned.byteOffset, count)
    : new Uint16Array(aligned.buffer, aligned.byteOffset, count)
}
