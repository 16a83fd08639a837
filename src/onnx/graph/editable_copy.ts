import { withFields } from '../proto/model.ts'
import type { AttributeProto, GraphProto, ModelProto, NodeProto } from '../proto/onnx_pb.ts'

/**
 * A copy of a model for rewriting: lists and nodes are its own, tensors and other values that no rewriting changes are
 * shared with the original, so no bytes of weights are copied.
 */
export function editableCopy(model: ModelProto): ModelProto & { graph: GraphProto } {
  const { opsetImport, metadataProps } = model
  return withFields(model, {
    graph: copyOfGraph(model.graph as GraphProto),
    opsetImport: [...opsetImport],
    metadataProps: [...metadataProps],
  }) as ModelProto & { graph: GraphProto }
}

function copyOfGraph(graph: GraphProto): GraphProto {
  return withFields(graph, {
    node: graph.node.map(copyOfNode),
    initializer: graph.initializer.map((tensor) => withFields(tensor, {})),
    input: [...graph.input],
  })
}

function copyOfNode(node: NodeProto): NodeProto {
  return withFields(node, {
    input: [...node.input],
    output: [...node.output],
    attribute: node.attribute.map(copyOfAttribute),
  })
}

/** Only attributes that hold graphs are copied: nothing edits others. */
function copyOfAttribute(attribute: AttributeProto): AttributeProto {
  const { g, graphs } = attribute
  if (g === undefined && graphs.length === 0) return attribute
  return withFields(attribute, { ...(g && { g: copyOfGraph(g) }), graphs: graphs.map(copyOfGraph) })
}
