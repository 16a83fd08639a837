import { parseModel } from '../proto/model.ts'
import type { GraphProto, ModelProto } from '../proto/onnx_pb.ts'
import type { ExternalFiles } from '../proto/tensor_bytes.ts'
import { editableCopy } from './editable_copy.ts'
import { type GraphIndex, indexGraph } from './graph_index.ts'

/**
 * An ONNX file that is parsed once, when something first asks for what is in it, and then handed on from consumer to
 * consumer. Nothing edits it: what rewrites a graph takes a copy.
 */
export class OnnxGraph {
  /** Path in the model folder, e.g. `onnx/model.onnx`. */
  readonly file: string
  /** Must not change: tensors of the parsed model are views of it. */
  readonly bytes: Uint8Array<ArrayBuffer>
  #model: ModelProto | undefined
  #index: GraphIndex | undefined

  constructor(file: string, bytes: Uint8Array<ArrayBuffer>) {
    this.file = file
    this.bytes = bytes
  }

  /** @throws {TritswapError} `input` when the bytes are not an ONNX model */
  get model(): ModelProto {
    this.#model ??= parseModel(this.bytes, this.file)
    return this.#model
  }

  /** @throws {TritswapError} `input` when the bytes are not an ONNX model */
  get main(): GraphProto {
    return this.model.graph as GraphProto
  }

  /** @throws {TritswapError} `input` when the bytes are not an ONNX model */
  get index(): GraphIndex {
    this.#index ??= indexGraph(this.main)
    return this.#index
  }

  /** A model to edit. @throws {TritswapError} `input` when the bytes are not an ONNX model */
  copy(): ModelProto & { graph: GraphProto } {
    return editableCopy(this.model)
  }
}

/** One graph of a model as it lies in its folder. */
export interface GraphFile {
  graph: OnnxGraph
  /** Data files beside it, by the names that it calls them. */
  external: ExternalFiles
}
