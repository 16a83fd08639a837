import { floatType } from '../proto/initializer.ts'
import {
  AttributeProto_AttributeType,
  type GraphProto,
  type NodeProto,
  type TensorProto,
} from '../proto/onnx_pb.ts'

/** One place where a node reads an initializer. */
export interface Use {
  node: NodeProto
  slot: number
  /** The graph that the node is in; not the initializer's own where an `If` branch reads from outside. */
  graph: GraphProto
}

export interface GraphIndex {
  /** All graphs: the main one first, then the bodies of If, Loop and Scan. */
  graphs: GraphProto[]
  /** Initializers of all graphs with their uses, in file order. */
  initializers: { tensor: TensorProto; owner: GraphProto; uses: Use[] }[]
  /** Nodes that read a value made in `graph`. */
  readersOf(graph: GraphProto, value: string): Use[]
}

/** Who reads what, with ONNX's scoping: a body sees the names of the graphs around it. */
export function indexGraph(main: GraphProto): GraphIndex {
  const graphs: GraphProto[] = []
  const readers = new Map<GraphProto, Map<string, Use[]>>()
  const visit = (graph: GraphProto, outer: readonly { graph: GraphProto; names: Set<string> }[]) => {
    const scope = [{ graph, names: definedIn(graph) }, ...outer]
    graphs.push(graph)
    readers.set(graph, new Map())
    for (const node of graph.node) {
      for (const [slot, value] of node.input.entries()) {
        const owner = scope.find(({ names }) => names.has(value))?.graph
        if (owner === undefined) continue
        const lists = readers.get(owner)!
        const list = lists.get(value)
        if (list === undefined) lists.set(value, [{ node, slot, graph }])
        else list.push({ node, slot, graph })
      }
      for (const body of bodiesOf(node)) visit(body, scope)
    }
  }
  visit(main, [])
  const readersOf = (graph: GraphProto, value: string) => readers.get(graph)?.get(value) ?? []
  return {
    graphs,
    readersOf,
    initializers: graphs.flatMap((owner) =>
      owner.initializer.map((tensor) => ({ tensor, owner, uses: readersOf(owner, tensor.name) })),
    ),
  }
}

/** Graphs held by a node's attributes. */
export function bodiesOf(node: NodeProto): GraphProto[] {
  return node.attribute.flatMap((attribute) => {
    if (attribute.type === AttributeProto_AttributeType.GRAPH && attribute.g !== undefined)
      return [attribute.g]
    return attribute.graphs
  })
}

/** Names that a graph gives to values: inputs, initializers, outputs of nodes. */
export function definedIn(graph: GraphProto): Set<string> {
  return new Set([
    ...graph.input.map((input) => input.name),
    ...graph.initializer.map((tensor) => tensor.name),
    ...graph.node.flatMap((node) => node.output),
  ])
}

/** An integer attribute of a node. */
export function intAttribute(node: NodeProto, name: string): number | undefined {
  const attribute = node.attribute.find((candidate) => candidate.name === name)
  return attribute === undefined ? undefined : Number(attribute.i)
}

/** Turns Constant nodes that hold a tensor into initializers of their graph, as some exporters would have had it. */
export function liftConstants(main: GraphProto): void {
  for (const graph of indexGraph(main).graphs) {
    const constants = graph.node.flatMap((node) => {
      const tensor =
        node.opType === 'Constant' ? node.attribute.find(({ name }) => name === 'value')?.t : undefined
      return tensor !== undefined && floatType(tensor) !== undefined && tensor.dims.length > 0
        ? [{ node, tensor }]
        : []
    })
    for (const { node, tensor } of constants) {
      tensor.name = node.output[0]
      graph.initializer.push(tensor)
    }
    const lifted = new Set(constants.map(({ node }) => node))
    if (lifted.size > 0) graph.node = graph.node.filter((node) => !lifted.has(node))
  }
}
