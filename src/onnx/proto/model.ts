import { fromBinary, toBinary } from '@bufbuild/protobuf'
import { TritswapError } from '../../errors.ts'
import { mistakenFile } from '../../source/mistaken_file.ts'
import { type ModelProto, ModelProtoSchema } from './onnx_pb.ts'

/**
 * Parses an ONNX file. Tensor bytes are views of `bytes`, which must not change afterwards; fields this schema
 * does not know are kept and written back.
 * @throws {TritswapError} `input` when the bytes are not an ONNX model
 */
export function parseModel(bytes: Uint8Array, name: string): ModelProto {
  let model: ModelProto
  try {
    // Slices of Node's Buffer are views with offsets of any alignment: the parser gets a plain array.
    model = fromBinary(ModelProtoSchema, new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength))
  } catch (cause) {
    const why = mistakenFile(bytes) ?? 'its protobuf is malformed'
    throw new TritswapError('input', `Cannot read ${name} as an ONNX model: ${why}`, {
      fields: { name },
      cause,
    })
  }
  if (model.graph === undefined || model.graph.output.length === 0) {
    throw new TritswapError('input', `Cannot read ${name} as an ONNX model: it has no graph`, {
      fields: { name },
    })
  }
  return model
}

export function serializeModel(model: ModelProto): Uint8Array<ArrayBuffer> {
  return toBinary(ModelProtoSchema, model) as Uint8Array<ArrayBuffer>
}

/** A copy of a message with other values in some fields. Default values of a message lie on its prototype. */
export function withFields<T extends object>(message: T, fields: Partial<T>): T {
  return Object.assign(Object.create(Object.getPrototypeOf(message)), message, fields)
}
