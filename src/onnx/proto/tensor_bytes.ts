/**
 * Where the bytes of an initializer lie. ONNX has three ways to store them: raw bytes, a typed field, and a file beside
 * the graph.
 *
 * @module
 */
import { TritswapError } from '../../errors.ts'
import { ONNX_BYTES, ONNX_TYPE } from '../../format/dtype.ts'
import { memorySource } from '../../source/memory.ts'
import type { ByteSource } from '../../source/source.ts'
import { type TensorProto, TensorProto_DataLocation } from './onnx_pb.ts'
import { countOf } from './tensors.ts'

/** The external-data file that `location` names, relative to the folder of the graph. */
export type ExternalFiles = (location: string) => ByteSource

/** An initializer as it is stored. */
export interface RawInitializer {
  tensor: TensorProto
  source: ByteSource
  /** First byte in the source. */
  offset: number
  bytes: number
}

/**
 * Where the bytes of an initializer of any type lie.
 * @throws {TritswapError} `input` when its file lies outside the folder, or its place in it is not stated
 */
export function locateBytes(tensor: TensorProto, external: ExternalFiles): RawInitializer {
  const location = externalLocation(tensor)
  if (location === undefined) {
    const raw = tensor.rawData.length > 0 ? tensor.rawData : typedBytes(tensor)
    return { tensor, source: memorySource(raw, tensor.name), offset: 0, bytes: raw.length }
  }
  const offset = Number(entry(tensor, 'offset') ?? 0)
  const stated = entry(tensor, 'length')
  const bytes =
    stated === undefined ? countOf(tensor) * (ONNX_BYTES[tensor.dataType] ?? Number.NaN) : Number(stated)
  if (!Number.isSafeInteger(offset) || offset < 0 || !Number.isSafeInteger(bytes) || bytes < 0) {
    throw new TritswapError('input', `Cannot read ${tensor.name}: its place in ${location} is not stated`, {
      fields: { name: tensor.name, location, offset, bytes },
    })
  }
  return { tensor, source: external(location), offset, bytes }
}

/**
 * The file that holds an initializer; undefined for one inside the graph. A graph may only name files beside itself,
 * as it comes from the network.
 * @throws {TritswapError} `input` for a file outside the folder of the graph
 */
export function externalLocation(tensor: TensorProto): string | undefined {
  if (tensor.dataLocation !== TensorProto_DataLocation.EXTERNAL) return undefined
  const { name } = tensor
  const location = entry(tensor, 'location') ?? ''
  const parts = location.split(/[\\/]/)
  if (location === '' || parts.includes('..') || parts[0] === '' || /^[a-z]+:/i.test(location)) {
    throw new TritswapError(
      'input',
      `Cannot read ${name}: its data is at "${location}", outside the model folder`,
      { fields: { name, location } },
    )
  }
  return location
}

function entry({ externalData }: TensorProto, key: string): string | undefined {
  return externalData.find((pair) => pair.key === key)?.value
}

/** Bytes of the typed fields. Bits of f16 and integers of less than 32 bits take an int32 each there. */
function typedBytes(tensor: TensorProto): Uint8Array {
  if (tensor.dataType === ONNX_TYPE.float32) return new Uint8Array(Float32Array.from(tensor.floatData).buffer)
  if (tensor.dataType === ONNX_TYPE.float16) return new Uint8Array(Uint16Array.from(tensor.int32Data).buffer)
  return Uint8Array.from(tensor.int32Data)
}
