import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { create } from '@bufbuild/protobuf'
import { parseModel, serializeModel } from '../../src/onnx/proto/model.ts'
import { TensorProto_DataType, TensorProtoSchema } from '../../src/onnx/proto/onnx_pb.ts'
import { ReferenceWeights } from '../../src/reference/index.ts'
import { fileSource } from './patched_onnx.ts'

const GRAPH = 'onnx/model.onnx'

/** The graph of a prepared f32 base with its weights in it again, as it was before `tritswap prepare`. */
export async function plainGraph(folder: string): Promise<Uint8Array<ArrayBuffer>> {
  const weights = await ReferenceWeights.open(fileSource(join(folder, 'weights.trit')))
  const feeds = weights.feeds(GRAPH)
  const model = parseModel(readFileSync(join(folder, GRAPH)), GRAPH)
  const graph = model.graph!
  for (const [name, { dtype, dims, data }] of feeds) {
    if (dtype !== 'float32') throw new Error(`${name} is not f32`)
    graph.initializer.push(
      create(TensorProtoSchema, {
        name,
        dims: dims.map(BigInt),
        dataType: TensorProto_DataType.FLOAT,
        rawData: new Uint8Array(data.buffer),
      }),
    )
  }
  graph.input = graph.input.filter(({ name }) => !feeds.has(name))
  return serializeModel(model)
}
