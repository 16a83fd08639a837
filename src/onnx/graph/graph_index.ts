import { bodiesOf } from '../proto/nodes.ts'
import type { GraphProto, NodeProto, TensorProto } from '../proto/onnx_pb.ts'

/** A node that reads a value, and at which of its inputs. */
export interface Reader {
  node: NodeProto
  /** Index into `node.input`. */
  position: number
  /** The graph that the node is in; not the value's own where an `If` branch reads from outside. */
  graph: GraphProto
}

export interface GraphIndex {
  /** All graphs: the main one first, then the bodies of If, Loop and Scan. */
  graphs: GraphProto[]
  /** Initializers of all graphs with the nodes that read them, in file order. */
  initializers: { tensor: TensorProto; readers: Reader[] }[]
  /** Nodes that read a value made in `graph`. */
  readersOf(graph: GraphProto, value: string): Reader[]
}

/** Indexes which nodes read which values, with ONNX's scoping: a body sees the names of the graphs around it. */
export function indexGraph(main: GraphProto): GraphIndex {
  const graphs: GraphProto[] = []
  const byGraph = new Map<GraphProto, Map<string, Reader[]>>()
  const visit = (graph: GraphProto, outer: readonly { graph: GraphProto; names: Set<string> }[]) => {
    const scope = [{ graph, names: definedIn(graph) }, ...outer]
    graphs.push(graph)
    byGraph.set(graph, new Map())
    for (const node of graph.node) {
      for (const [position, value] of node.input.entries()) {
        const owner = scope.find(({ names }) => names.has(value))?.graph
        if (owner === undefined) continue
        const byValue = byGraph.get(owner)!
        const readers = byValue.get(value)
        if (readers === undefined) byValue.set(value, [{ node, position, graph }])
        else readers.push({ node, position, graph })
      }
      for (const body of bodiesOf(node)) visit(body, scope)
    }
  }
  visit(main, [])
  const readersOf = (graph: GraphProto, value: string) => byGraph.get(graph)?.get(value) ?? []
  return {
    graphs,
    readersOf,
    initializers: graphs.flatMap((owner) =>
      owner.initializer.map((tensor) => ({ tensor, readers: readersOf(owner, tensor.name) })),
    ),
  }
}

/** Names that a graph gives to values: inputs, initializers, outputs of nodes. */
export function definedIn(graph: GraphProto): Set<string> {
  return new Set([
    ...graph.input.map((input) => input.name),
    ...graph.initializer.map((tensor) => tensor.name),
    ...graph.node.flatMap((node) => node.output),
  ])
}
