/** Synthetic graphs. */
import { create, toBinary } from '@bufbuild/protobuf'
import { type GraphFile, OnnxGraph } from '../../src/onnx/index.ts'
import { ModelProtoSchema, TensorProto_DataType } from '../../src/onnx/proto/onnx_pb.ts'
import { memorySource } from '../../src/source/memory.ts'

type Init = NonNullable<Parameters<typeof create<typeof ModelProtoSchema>>[1]>
type GraphInit = NonNullable<Init['graph']>

export const noFiles = () => memorySource(new Uint8Array())

export function modelOf(
  graph: GraphInit,
  external: GraphFile['external'] = noFiles,
  file = 'onnx/model.onnx',
  opsetImport: Init['opsetImport'] = [],
): GraphFile {
  const output = [{ name: 'y' }]
  const bytes = toBinary(
    ModelProtoSchema,
    create(ModelProtoSchema, { irVersion: 8n, opsetImport, graph: { output, ...graph } as GraphInit }),
  )
  return { graph: new OnnxGraph(file, bytes), external }
}

export function floats(name: string, dims: number[], value: (i: number) => number) {
  const length = dims.reduce((product, size) => product * size, 1)
  const values = Float32Array.from({ length }, (_, i) => value(i))
  return {
    name,
    dims: dims.map(BigInt),
    dataType: TensorProto_DataType.FLOAT,
    rawData: new Uint8Array(values.buffer),
  }
}
