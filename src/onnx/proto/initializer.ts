import { TritswapError } from '../../errors.ts'
import { type BlocksCode, type BlocksComponent, ELEMENT_BYTES } from '../../format/index.ts'
import { memorySource } from '../../source/memory.ts'
import type { ByteSource } from '../../source/source.ts'
import { type TensorProto, TensorProto_DataLocation, TensorProto_DataType } from './onnx_pb.ts'

/** Where the elements of an initializer lie, flat and little-endian. Nothing is read to make one. */
export interface InitializerData {
  dtype: 'float32' | 'float16' | 'uint8'
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
export interface QuantizedMatrix extends Omit<BlocksCode, 'transposed'> {
  rows: number
  cols: number
  /** How the float initializer that stands for it keeps the matrix: as [out, in], or turned as MatMul wants it. */
  layout: 'checkpoint' | 'transposed'
  components: Partial<Record<BlocksComponent, RawInitializer>> & Record<'weights' | 'scales', RawInitializer>
}

/** An initializer as it is stored. */
export interface RawInitializer {
  tensor: TensorProto
  source: ByteSource
  /** First byte in the source. */
  offset: number
  bytes: number
}

/** The external-data file that `location` names, relative to the folder of the graph. */
export type ExternalFiles = (location: string) => ByteSource

/** Float types that graph inputs and WebGPU kernels take; undefined for all others. */
export function floatType(tensor: TensorProto): 'float32' | 'float16' | undefined {
  if (tensor.dataType === TensorProto_DataType.FLOAT) return 'float32'
  if (tensor.dataType === TensorProto_DataType.FLOAT16) return 'float16'
  return undefined
}

export function dimsOf(tensor: TensorProto): number[] {
  return tensor.dims.map(Number)
}

/**
 * Locates the data of a float initializer, whichever of the three ways ONNX has (raw bytes, typed field, external
 * file) it is stored.
 * @throws {TritswapError} `input` when its size does not agree with its shape or its file lies outside the folder
 */
export function initializerData(tensor: TensorProto, external: ExternalFiles): InitializerData {
  const dtype = floatType(tensor)
  if (dtype === undefined) {
    throw new TritswapError(
      'unsupported',
      `Cannot take ${tensor.name} as a weight: its type is ${tensor.dataType}`,
      {
        fields: { name: tensor.name, type: tensor.dataType },
      },
    )
  }
  const dims = dimsOf(tensor)
  const length = dims.reduce((product, size) => product * size, 1)
  const bytes = length * ELEMENT_BYTES[dtype]
  const located = locateBytes(tensor, external)
  if (located.bytes !== bytes) throw wrongSize(tensor, bytes, located.bytes)
  return { dtype, dims, length, source: located.source, offset: located.offset }
}

/**
 * Where the bytes of an initializer of any type lie.
 * @throws {TritswapError} `input` when its file lies outside the folder, or its place in it is not stated
 */
export function locateBytes(
  tensor: TensorProto,
  external: ExternalFiles,
): { source: ByteSource; offset: number; bytes: number } {
  if (tensor.dataLocation !== TensorProto_DataLocation.EXTERNAL) {
    const raw = tensor.rawData.length > 0 ? tensor.rawData : typedBytes(tensor)
    return { source: memorySource(raw, tensor.name), offset: 0, bytes: raw.length }
  }
  const entry = (key: string) => tensor.externalData.find((pair) => pair.key === key)?.value
  const location = checkedLocation(entry('location') ?? '', tensor.name)
  const offset = Number(entry('offset') ?? 0)
  const stated = entry('length')
  const elements = dimsOf(tensor).reduce((product, size) => product * size, 1)
  const bytes =
    stated === undefined ? elements * (BYTES_OF_TYPE[tensor.dataType] ?? Number.NaN) : Number(stated)
  if (!Number.isSafeInteger(offset) || offset < 0 || !Number.isSafeInteger(bytes) || bytes < 0) {
    throw new TritswapError('input', `Cannot read ${tensor.name}: its place in ${location} is not stated`, {
      fields: { name: tensor.name, location, offset, bytes },
    })
  }
  return { source: external(location), offset, bytes }
}

/** Sizes of the types that matter where an external length is left out. */
const BYTES_OF_TYPE: Readonly<Record<number, number>> = {
  [TensorProto_DataType.FLOAT]: 4,
  [TensorProto_DataType.FLOAT16]: 2,
  [TensorProto_DataType.UINT8]: 1,
  [TensorProto_DataType.INT8]: 1,
  [TensorProto_DataType.INT32]: 4,
  [TensorProto_DataType.INT64]: 8,
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

/** The typed fields: f16 bits, and integers of less than 32 bits, are kept one in an int32. */
function typedBytes(tensor: TensorProto): Uint8Array {
  if (tensor.dataType === TensorProto_DataType.FLOAT)
    return new Uint8Array(Float32Array.from(tensor.floatData).buffer)
  if (tensor.dataType === TensorProto_DataType.FLOAT16)
    return new Uint8Array(Uint16Array.from(tensor.int32Data).buffer)
  return Uint8Array.from(tensor.int32Data)
}

/** A graph may only name files beside itself: it comes from the network. */
export function checkedLocation(location: string, name: string): string {
  const parts = location.split(/[\\/]/)
  if (location === '' || parts.includes('..') || parts[0] === '' || /^[a-z]+:/i.test(location)) {
    throw new TritswapError(
      'input',
      `Cannot read ${name}: its data is at "${location}", outside the model folder`,
      {
        fields: { name, location },
      },
    )
  }
  return location
}

export function wrongSize(tensor: TensorProto, expected: number, found: number): TritswapError {
  return new TritswapError(
    'input',
    `Cannot read ${tensor.name}: its shape ${dimsOf(tensor).join('×')} needs ${expected} bytes, found ${found}`,
    { fields: { name: tensor.name, expected, found } },
  )
}
