/**
 * Weights that are quantized by blocks seen as float ones: MatMulNBits becomes MatMul and GatherBlockQuantized becomes
 * Gather, each over a float initializer that is computed from the quantized one when it is read. Such a weight gets its
 * name by the same rules as others, whether it is then hoisted as floats or as it is.
 *
 * @module
 */
import { create } from '@bufbuild/protobuf'
import { ONNX_TYPE } from '../../format/dtype.ts'
import { indexGraph, type Reader } from '../graph/graph_index.ts'
import { operatorOf } from '../graph/operators.ts'
import type { InitializerData, QuantizedMatrix } from '../proto/initializer_data.ts'
import { newNode } from '../proto/nodes.ts'
import { type GraphProto, type NodeProto, type TensorProto, TensorProtoSchema } from '../proto/onnx_pb.ts'
import type { ExternalFiles } from '../proto/tensor_bytes.ts'
import { Dequantizer } from './dequantized_data.ts'
import { matrixOf } from './matrix.ts'

/** A quantized node, and the float nodes in its stead. */
interface Replacement {
  graph: GraphProto
  /** The float initializer. */
  tensor: TensorProto
  quantized: NodeProto
  floats: NodeProto[]
}

/** A graph whose quantized weights are float initializers. */
export interface FloatView {
  main: GraphProto
  /** Data of the float initializers that stand for quantized ones. */
  data: ReadonlyMap<TensorProto, InitializerData>
  replacements: readonly Replacement[]
}

/** Replaces the weights of a graph that are quantized by blocks, in place. */
export function viewAsFloats(main: GraphProto, external: ExternalFiles): FloatView {
  const initializers = new Map(main.initializer.map((tensor) => [tensor.name, tensor]))
  const replacements: Replacement[] = []
  const data = new Map<TensorProto, InitializerData>()
  const dequantizer = new Dequantizer()
  const floatOf = (matrix: QuantizedMatrix): TensorProto => {
    const base = nameOf(matrix)
    let name = base
    let tensor = initializers.get(name)
    for (let n = 2; tensor !== undefined && !isOf(data.get(tensor), matrix); n++) {
      name = `${base}::${n}`
      tensor = initializers.get(name)
    }
    if (tensor !== undefined) return tensor
    const found = dequantizer.dataOf(matrix)
    const float = create(TensorProtoSchema, {
      name,
      dims: found.dims.map(BigInt),
      dataType: ONNX_TYPE[found.dtype],
    })
    initializers.set(name, float)
    main.initializer.push(float)
    data.set(float, found)
    return float
  }
  for (const graph of indexGraph(main).graphs) {
    for (const quantized of [...graph.node]) {
      const matrix = matrixOf(quantized, graph, initializers, external)
      if (matrix === undefined) continue
      const tensor = floatOf(matrix)
      const floats = floatNodes(quantized, tensor.name)
      graph.node.splice(graph.node.indexOf(quantized), 1, ...floats)
      replacements.push({ graph, tensor, quantized, floats })
    }
  }
  return { main, data, replacements }
}

/** The quantized nodes that readers of a float initializer stand for; by default all. */
export function quantizedNodesOf(
  { replacements }: FloatView,
  tensor: TensorProto,
  readers?: readonly Reader[],
): NodeProto[] {
  return replacements
    .filter(
      (one) => one.tensor === tensor && (readers?.some(({ node }) => one.floats.includes(node)) ?? true),
    )
    .map(({ quantized }) => quantized)
}

/** Puts quantized nodes back where their float initializer is still one, and removes that. */
export function restoreQuantized({ main, data, replacements }: FloatView): void {
  const left = new Set(main.initializer.filter((tensor) => data.has(tensor)))
  main.initializer = main.initializer.filter((tensor) => !left.has(tensor))
  for (const { graph, tensor, quantized, floats } of replacements) {
    if (!left.has(tensor)) continue
    const [product, add] = floats
    // Its bias may have become an input of another name.
    if (add !== undefined) quantized.input[operatorOf(quantized).product!.bias!] = add.input[1]
    graph.node.splice(graph.node.indexOf(product), floats.length, quantized)
  }
}

/** Removes initializers, views and constants that only a quantized node had read. */
export function dropUnread({ main, replacements }: FloatView): void {
  if (replacements.length === 0) return
  const results = new Set(main.output.map(({ name }) => name))
  // A view first, then the constants that gave its shape.
  for (const opType of ['Reshape', 'Constant']) {
    const isRead = readIn(main, results)
    main.node = main.node.filter((node) => node.opType !== opType || isRead(node.output[0]))
  }
  const isRead = readIn(main, results)
  main.initializer = main.initializer.filter(({ name }) => isRead(name))
}

function readIn(main: GraphProto, results: ReadonlySet<string>): (name: string) => boolean {
  const { readersOf } = indexGraph(main)
  return (name) => results.has(name) || readersOf(main, name).length > 0
}

/** The name that the float weight had; the matrix of a lookup is another initializer than that of a tied product. */
function nameOf({ components, layout }: QuantizedMatrix): string {
  const own = components.weights.tensor.name.replace(/_(DQ_)?Q\d\w*$/, '')
  return layout === 'checkpoint' ? `${own}.rows` : own
}

/** Whether an initializer stands for the same quantized weights. */
function isOf(data: InitializerData | undefined, { components }: QuantizedMatrix): boolean {
  const known = data?.matrix?.components
  return (
    known?.weights.tensor === components.weights.tensor && known.scales.tensor === components.scales.tensor
  )
}

/** The float nodes that do what a quantized one did. */
function floatNodes(node: NodeProto, weight: string): NodeProto[] {
  const { name, output } = node
  const product = operatorOf(node).product!
  const { float } = product.blocks!
  const data = node.input[product.data]
  if (product.kind === 'embedding') return [newNode(name, float, [weight, data], [output[0]])]
  const bias = product.bias === undefined ? undefined : node.input[product.bias]
  if (!bias) return [newNode(name, float, [data, weight], [output[0]])]
  const value = `${output[0]}::product`
  return [
    newNode(name, float, [data, weight], [value]),
    newNode(`${name}_bias`, 'Add', [value, bias], [output[0]]),
  ]
}
