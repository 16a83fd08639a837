import { create } from '@bufbuild/protobuf'
import { ONNX_TYPE } from '../../format/dtype.ts'
import { floatsToHalves } from '../../format/float16.ts'
import type { HoistedInput } from '../../format/index.ts'
import { indexGraph } from '../graph/graph_index.ts'
import { newNode } from '../proto/nodes.ts'
import { type GraphProto, TensorProtoSchema } from '../proto/onnx_pb.ts'
import type { ResolvedParameter } from '../resolve/resolution.ts'
import { GraphInputs, type HoistedWeight } from './graph_inputs.ts'
import type { InputNames } from './input_names.ts'

/**
 * Moves float initializers of `main` (and of the bodies inside it) to graph inputs, in place. onnxruntime-web lets a
 * caller feed such an input from a GPU buffer of its own; an initializer it keeps to itself.
 * @returns the inputs added, each with its data
 */
export function hoistFloats(
  main: GraphProto,
  resolved: readonly ResolvedParameter[],
  names: InputNames,
): HoistedWeight[] {
  const inputs = new GraphInputs(main, names)
  for (const { parameter, data, parts, addend, readers } of resolved) {
    const { tensor } = parameter
    const input = { dtype: data.dtype, dims: data.dims, parts }
    const name = inputs.add(tensor, input, data, readers === undefined)
    if (name === tensor.name && readers === undefined && addend === undefined) continue
    const value = addend === undefined ? name : sumWith(main, name, addend, data.dtype)
    for (const { node, position } of readers ?? inputs.readersOf(tensor)) node.input[position] = value
  }
  const gone = new Set(resolved.map(({ parameter }) => parameter.tensor))
  for (const graph of indexGraph(main).graphs)
    graph.initializer = graph.initializer.filter((tensor) => !gone.has(tensor))
  const { weights } = inputs
  const stale = new Set(Array.from(gone, (tensor) => tensor.name).filter((name) => !weights.has(name)))
  main.input = main.input.filter((input) => !stale.has(input.name))
  return [...weights.values()]
}

/** The value of an input with a constant added, computed in the graph. */
function sumWith(main: GraphProto, input: string, addend: number, dtype: HoistedInput['dtype']): string {
  const output = `${input}::shifted`
  const constant = `tritswap::shift::${dtype}`
  if (!main.initializer.some(({ name }) => name === constant)) {
    const values = Float32Array.of(addend)
    const stored = dtype === 'float16' ? floatsToHalves(values) : values
    const rawData = new Uint8Array(stored.buffer)
    main.initializer.push(create(TensorProtoSchema, { name: constant, dataType: ONNX_TYPE[dtype], rawData }))
  }
  if (!main.node.some((node) => node.output[0] === output)) {
    // In front of all nodes, so that bodies of If see it as well.
    main.node.unshift(newNode(`/${output}/Add`, 'Add', [input, constant], [output]))
  }
  return output
}
