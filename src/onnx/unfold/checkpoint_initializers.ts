import { create } from '@bufbuild/protobuf'
import { ELEMENT_BYTES, type FloatInputDtype, ONNX_TYPE } from '../../format/dtype.ts'
import { floatsToHalves } from '../../format/float16.ts'
import { weightsOf } from '../../format/index.ts'
import type { ByteSource } from '../../source/source.ts'
import { definedIn, indexGraph } from '../graph/graph_index.ts'
import {
  type GraphProto,
  StringStringEntryProtoSchema,
  TensorProto_DataLocation,
  TensorProtoSchema,
} from '../proto/onnx_pb.ts'
import type { ExternalFiles } from '../proto/tensor_bytes.ts'
import type { Checkpoint } from '../resolve/checkpoint.ts'

/** Initializers that a graph gets in place of folded ones: tensors of the checkpoint, under their names there. */
export class CheckpointInitializers {
  readonly #main: GraphProto
  readonly #checkpoint: Checkpoint
  readonly #external: ExternalFiles
  readonly #sources = new Map<string, ByteSource>()
  /** Names of values by tensor and type. */
  readonly #added = new Map<string, string>()
  readonly #taken: Set<string>

  constructor(main: GraphProto, checkpoint: Checkpoint, external: ExternalFiles) {
    this.#main = main
    this.#checkpoint = checkpoint
    this.#external = external
    this.#taken = new Set(indexGraph(main).graphs.flatMap((graph) => [...definedIn(graph)]))
  }

  /** Where the data of initializers lies: that of added ones in the checkpoint. */
  get external(): ExternalFiles {
    return (location) => this.#sources.get(location) ?? this.#external(location)
  }

  /** A tensor of the checkpoint. @returns its value's name in the graph */
  add(tensor: string, dtype: FloatInputDtype): string {
    const key = `${tensor} ${dtype}`
    const known = this.#added.get(key)
    if (known !== undefined) return known
    const { shape } = this.#checkpoint.tensors.get(tensor)!
    const name = this.#freeName(tensor)
    this.#sources.set(name, this.#sourceOf(tensor, dtype))
    const entries = { location: name, offset: 0, length: weightsOf(shape) * ELEMENT_BYTES[dtype] }
    this.#main.initializer.push(
      create(TensorProtoSchema, {
        name,
        dims: shape.map(BigInt),
        dataType: ONNX_TYPE[dtype],
        dataLocation: TensorProto_DataLocation.EXTERNAL,
        externalData: Object.entries(entries).map(([key, value]) =>
          create(StringStringEntryProtoSchema, { key, value: `${value}` }),
        ),
      }),
    )
    this.#added.set(key, name)
    return name
  }

  /** Whole numbers that say how to compute. @returns their value's name in the graph */
  addIntegers(base: string, dims: readonly number[], values: readonly number[]): string {
    const name = this.#freeName(base)
    const rawData = new Uint8Array(BigInt64Array.from(values, BigInt).buffer)
    this.#main.initializer.push(
      create(TensorProtoSchema, { name, dims: dims.map(BigInt), dataType: ONNX_TYPE.int64, rawData }),
    )
    return name
  }

  #freeName(base: string): string {
    let name = base
    for (let n = 2; this.#taken.has(name); n++) name = `${base}_merged_${n}`
    this.#taken.add(name)
    return name
  }

  #sourceOf(tensor: string, dtype: FloatInputDtype): ByteSource {
    const { name, tensors } = this.#checkpoint
    const size = ELEMENT_BYTES[dtype]
    return {
      name: `${name}: ${tensor}`,
      size: async () => weightsOf(tensors.get(tensor)!.shape) * size,
      read: async (offset, length) => {
        const values = await this.#checkpoint.read(tensor, offset / size, length / size)
        const stored = dtype === 'float16' ? floatsToHalves(values) : values
        return new Uint8Array(stored.slice().buffer)
      },
    }
  }
}
