import { withFields } from '../proto/model.ts'
import { bodiesOf } from '../proto/nodes.ts'
import type { GraphProto } from '../proto/onnx_pb.ts'
import { floatType } from '../proto/tensors.ts'

/** Turns Constant nodes that hold a float tensor into initializers of their graph, in place. */
export function liftConstants(graph: GraphProto): void {
  const constants = graph.node.flatMap((node) => {
    const tensor =
      node.opType === 'Constant' ? node.attribute.find(({ name }) => name === 'value')?.t : undefined
    return tensor !== undefined && floatType(tensor) !== undefined && tensor.dims.length > 0
      ? [{ node, tensor }]
      : []
  })
  for (const { node, tensor } of constants) {
    graph.initializer.push(withFields(tensor, { name: node.output[0] }))
  }
  const lifted = new Set(constants.map(({ node }) => node))
  if (lifted.size > 0) graph.node = graph.node.filter((node) => !lifted.has(node))
  for (const body of graph.node.flatMap(bodiesOf)) liftConstants(body)
}
