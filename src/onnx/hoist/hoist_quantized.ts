import type { NBitsComponent } from '../../format/codecs/nbits_decode.ts'
import { ELEMENT_BYTES, type Placement, weightsOf } from '../../format/index.ts'
import type { QuantizedMatrix } from '../proto/initializer_data.ts'
import type { GraphProto, NodeProto } from '../proto/onnx_pb.ts'
import type { RawInitializer } from '../proto/tensor_bytes.ts'
import { countOf, dimsOf, storedType } from '../proto/tensors.ts'
import { GraphInputs, type HoistedWeight } from './graph_inputs.ts'
import type { InputNames } from './input_names.ts'

/** A quantized weight that stays one. */
export interface QuantizedWeight {
  matrix: QuantizedMatrix
  /** The nodes that multiply with it or look up in it. */
  nodes: readonly NodeProto[]
  /** Rows of the matrix for each tensor that it is made of. */
  parts: readonly { tensor: string; firstRow: number }[]
}

/**
 * Moves the initializers of quantized weights (integers, scales, zero points) to graph inputs as they are, in place.
 * MatMulNBits and GatherBlockQuantized run on the GPU with all of them in buffers of the caller, so that several graphs
 * can share them.
 */
export function hoistQuantized(
  main: GraphProto,
  quantized: readonly QuantizedWeight[],
  names: InputNames,
): HoistedWeight[] {
  const inputs = new GraphInputs(main, names)
  for (const { matrix, nodes, parts } of quantized) {
    for (const [raw, component] of Object.entries(matrix.components) as [NBitsComponent, RawInitializer][]) {
      const { tensor, source, offset } = component
      const dtype = storedType(tensor)
      const dims = dimsOf(tensor)
      const placements = parts.map((part) => componentPlacement(part, matrix, component))
      const data = { dtype, dims, length: weightsOf(dims), source, offset }
      const name = inputs.add(tensor, { dtype, dims, raw, parts: placements }, data)
      // Another matrix may share the initializer, or take its name for an input of its own.
      for (const { node, position } of inputs.readersOf(tensor))
        if (isReadBy(nodes, node)) node.input[position] = name
    }
  }
  const { weights } = inputs
  main.initializer = main.initializer.filter(({ name }) => !weights.has(name))
  return [...weights.values()]
}

/** Whether a component of a matrix can be filled from those of the tensors that it is made of, in whole words. */
export function isAligned({ matrix, parts }: Omit<QuantizedWeight, 'nodes'>): boolean {
  return Object.values(matrix.components).every((component) => {
    const size = ELEMENT_BYTES[storedType(component.tensor)]
    return parts.every((part) => (componentPlacement(part, matrix, component).offset * size) % 4 === 0)
  })
}

/** Where a component of a tensor lies in the initializer of its matrix: rows follow one another. */
function componentPlacement(
  { tensor, firstRow }: QuantizedWeight['parts'][0],
  { rows }: QuantizedMatrix,
  component: RawInitializer,
): Placement {
  const rowLength = countOf(component.tensor) / rows
  return { tensor, offset: firstRow * rowLength, rowStride: rowLength, colStride: 1 }
}

/** One of these nodes, or the view of a weight that one of them looks up in. */
function isReadBy(nodes: readonly NodeProto[], node: NodeProto): boolean {
  if (node.opType !== 'Reshape') return nodes.includes(node)
  return nodes.some(({ input }) => input[0] === node.output[0])
}
