import { create } from '@bufbuild/protobuf'
import { ONNX_TYPE } from '../../format/dtype.ts'
import type { HoistedInput } from '../../format/index.ts'
import type { OnnxGraph } from '../graph/onnx_graph.ts'
import { serializeModel } from '../proto/model.ts'
import {
  type GraphProto,
  StringStringEntryProtoSchema,
  TensorProto_DataLocation,
  TensorProtoSchema,
} from '../proto/onnx_pb.ts'
import { cutLogits } from './last_logits.ts'

/** Where the values of a graph input lie in a file. */
export interface StoredInput extends Pick<HoistedInput, 'name' | 'dtype' | 'dims'> {
  /** First byte. */
  offset: number
  bytes: number
}

/**
 * A hoisted graph for a session that scores texts: its weights come from a file, and it can leave out the logits that
 * no one reads.
 * @param location - what the graph calls the file
 * @returns whether the graph has the input {@link FIRST_LOGIT}
 * @throws {TritswapError} `input` for bytes that are no ONNX model
 */
export function scoringGraph(
  graph: OnnxGraph,
  stored: readonly StoredInput[],
  location: string,
): { bytes: Uint8Array<ArrayBuffer>; isCut: boolean } {
  const model = graph.copy()
  storeInputs(model.graph, stored, location)
  const isCut = cutLogits(model.graph)
  return { bytes: serializeModel(model), isCut }
}

/**
 * A hoisted graph for a session that holds its weights itself.
 * @param location - what the graph calls the file that they come from
 * @throws {TritswapError} `input` for bytes that are no ONNX model
 */
export function graphWithStored(
  graph: OnnxGraph,
  stored: readonly StoredInput[],
  location: string,
): Uint8Array<ArrayBuffer> {
  const model = graph.copy()
  storeInputs(model.graph, stored, location)
  return serializeModel(model)
}

/**
 * The way back from hoisting: inputs of `main` become initializers again, whose bytes lie in an external file. A session
 * then holds the weights itself and does not copy them at every run, as onnxruntime's wasm does with inputs.
 */
function storeInputs(main: GraphProto, stored: readonly StoredInput[], location: string): void {
  const names = new Set(stored.map(({ name }) => name))
  main.input = main.input.filter(({ name }) => !names.has(name))
  for (const { name, dtype, dims, offset, bytes } of stored) {
    const place = { location, offset: String(offset), length: String(bytes) }
    main.initializer.push(
      create(TensorProtoSchema, {
        name,
        dataType: ONNX_TYPE[dtype],
        dims: dims.map(BigInt),
        dataLocation: TensorProto_DataLocation.EXTERNAL,
        externalData: Object.entries(place).map(([key, value]) =>
          create(StringStringEntryProtoSchema, { key, value }),
        ),
      }),
    )
  }
}
