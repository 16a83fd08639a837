import type { OnnxGraph } from '../graph/onnx_graph.ts'
import { operatorOf } from '../graph/operators.ts'
import type { NodeProto } from '../proto/onnx_pb.ts'
import { countOf, floatType } from '../proto/tensors.ts'
import { moduleOfNode } from './names.ts'

/** Parameters of modules that run, read by nothing but training. */
const TRAINING_ONLY = /(^|\.)(mask_token|masked_spec_embed)$/

/**
 * Tells of a parameter whether no graph of a model has any use for it: exporters leave out the modules that outputs
 * do not depend on, a pooler after features for instance. That is certain only where every node that reads a weight
 * names its module, and no module has to do with the parameter's; otherwise the parameter may have been folded into
 * another weight.
 */
export function unusedIn(graphs: readonly OnnxGraph[]): (parameter: string) => boolean {
  const nodes = graphs.flatMap(({ index }) => index.graphs.flatMap((graph) => graph.node))
  const components = new Set(nodes.flatMap((node) => moduleOfNode(node)?.split('.') ?? []))
  const areNamed = graphs.length > 0 && graphs.every((graph) => readersOfWeights(graph).every(namesItsModule))
  const withConstants = modulesWithConstants(graphs)
  return (parameter) => {
    if (TRAINING_ONLY.test(parameter)) return true
    // torch keeps the parts of a weight that it computes in a module below the weight's own.
    const path = parameter
      .replace(/\.parametrizations\.\w+(?=\.original\d*$)/, '')
      .split('.')
      .slice(0, -1)
    // The parent of the module decides: a fused operator has a name beside those of the modules in it. A parameter of
    // a layer that the graphs lack belongs to another model, so numbers of layers do not count.
    const parent = path.slice(0, -1).findLast((component) => !/^\d+$/.test(component)) ?? path.at(-1)
    if (!areNamed || parent === undefined || components.has(parent)) return false
    return !withConstants.some((module) => parameter.startsWith(`${module}.`))
  }
}

/** Below this a constant is of a formula. */
const MIN_VALUES = 16

/** Modules that read constants which may have been computed from parameters: an exporter ran a part of the module in advance. */
function modulesWithConstants(graphs: readonly OnnxGraph[]): string[] {
  const readers = graphs
    .flatMap(({ index }) => index.initializers)
    .filter(({ tensor }) => floatType(tensor) !== undefined && countOf(tensor) >= MIN_VALUES)
    .flatMap(({ readers }) => readers)
  return [...new Set(readers.flatMap(({ node }) => moduleOfNode(node) ?? []))]
}

function readersOfWeights({ main, index }: OnnxGraph): NodeProto[] {
  const readers = [
    ...main.input.flatMap(({ name }) => index.readersOf(main, name)),
    ...index.initializers
      .filter(({ tensor }) => floatType(tensor) !== undefined && tensor.dims.length > 0)
      .flatMap((initializer) => initializer.readers),
  ]
  return readers.map(({ node }) => node)
}

function namesItsModule(node: NodeProto): boolean {
  // A node between a weight and its module says nothing, and one outside any module has a leading slash alone.
  const isBetween = operatorOf(node).view !== undefined || node.opType === 'DequantizeLinear'
  return moduleOfNode(node) !== undefined || isBetween || /^\/[^/]+$/.test(node.name)
}
