import type { HoistedInput } from '../../format/index.ts'
import { definedIn, indexGraph, type Reader } from '../graph/graph_index.ts'
import type { InitializerData } from '../proto/initializer_data.ts'
import { newInput } from '../proto/nodes.ts'
import type { GraphProto, TensorProto } from '../proto/onnx_pb.ts'
import type { InputNames } from './input_names.ts'

/** A graph input with the initializer data that it had. */
export interface HoistedWeight {
  input: HoistedInput
  data: InitializerData
}

/** Turns initializers of one graph into its inputs: names them, and lists them among the inputs of the main graph. */
export class GraphInputs {
  readonly weights = new Map<string, HoistedWeight>()
  readonly #main: GraphProto
  readonly #names: InputNames
  /** In how many graphs, of the main one and the bodies in it, each name is defined. */
  readonly #definitions = new Map<string, number>()
  readonly #readers: ReadonlyMap<TensorProto, readonly Reader[]>
  readonly #listed: ReadonlySet<string>

  constructor(main: GraphProto, names: InputNames) {
    const { graphs, initializers } = indexGraph(main)
    this.#main = main
    this.#names = names
    for (const name of graphs.flatMap((graph) => [...definedIn(graph)]))
      this.#definitions.set(name, (this.#definitions.get(name) ?? 0) + 1)
    this.#readers = new Map(initializers.map(({ tensor, readers }) => [tensor, readers]))
    this.#listed = new Set(main.input.map((input) => input.name))
  }

  readersOf(tensor: TensorProto): readonly Reader[] {
    return this.#readers.get(tensor) ?? []
  }

  /**
   * @param keepsName - whether an input may take over the initializer's name
   * @returns the name of the input
   */
  add(
    tensor: TensorProto,
    input: Omit<HoistedInput, 'name'>,
    data: InitializerData,
    keepsName = true,
  ): string {
    const name = this.#names.choose(tensor.name, input, (candidate) => {
      if (this.weights.has(candidate) || !this.#definitions.has(candidate)) return true
      return keepsName && candidate === tensor.name && this.#definitions.get(candidate) === 1
    })
    if (this.weights.has(name)) return name
    this.weights.set(name, { input: { name, ...input }, data })
    // Before IR version 4 every initializer was listed as an input as well.
    if (!this.#listed.has(name)) this.#main.input.push(newInput(name, input.dtype, input.dims))
    return name
  }
}
