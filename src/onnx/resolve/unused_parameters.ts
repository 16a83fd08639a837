import { indexGraph } from '../graph/graph_index.ts'
import { dimsOf, floatType } from '../proto/initializer.ts'
import { parseModel } from '../proto/model.ts'
import type { NodeProto } from '../proto/onnx_pb.ts'
import { moduleOfNode } from './names.ts'

/** Parameters of modules that run, read by nothing but training. */
const TRAINING_ONLY = /(^|\.)(mask_token|masked_spec_embed)$/

/** Operators between a weight and the module that it is of. */
const VIEWS = new Set([
  'Transpose',
  'Cast',
  'Identity',
  'Reshape',
  'Squeeze',
  'Unsqueeze',
  'DequantizeLinear',
])

/**
 * Tells of a parameter whether no graph of a model has any use for it: exporters leave out the modules that outputs
 * do not depend on, a pooler behind features for instance. That is certain only where every node that reads a weight
 * says which module it is of, and none of those has to do with the parameter's; whatever else has no place may have
 * been folded into another weight.
 */
export function unusedIn(
  graphs: readonly { file: string; bytes: Uint8Array }[],
): (parameter: string) => boolean {
  const components = new Set<string>()
  let areNamed = graphs.length > 0
  for (const { file, bytes } of graphs) {
    const main = parseModel(bytes, file).graph!
    const index = indexGraph(main)
    const readers = new Set<NodeProto>([
      ...main.input.flatMap(({ name }) => index.readersOf(main, name).map(({ node }) => node)),
      ...index.initializers
        .filter(({ tensor }) => floatType(tensor) !== undefined && dimsOf(tensor).length > 0)
        .flatMap(({ uses }) => uses.map(({ node }) => node)),
    ])
    for (const node of index.graphs.flatMap((graph) => graph.node)) {
      const module = moduleOfNode(node)
      for (const component of module?.split('.') ?? []) components.add(component)
      // What is in no module has a leading slash of its own.
      if (
        module === undefined &&
        readers.has(node) &&
        !VIEWS.has(node.opType) &&
        !/^\/[^/]+$/.test(node.name)
      )
        areNamed = false
    }
  }
  return (parameter) => {
    if (TRAINING_ONLY.test(parameter)) return true
    const path = parameter.split('.').slice(0, -1)
    // A fused operator goes by a name beside those of the modules in it, and a layer too many is another model's.
    const whole = path.slice(0, -1).findLast((component) => !/^\d+$/.test(component)) ?? path.at(-1)
    return areNamed && whole !== undefined && !components.has(whole)
  }
}
