import { operatorOf } from '../graph/operators.ts'
import type { GraphProto, NodeProto } from '../proto/onnx_pb.ts'

/** What a MatMulInteger or ConvInteger is part of: `output = op(input, weight)` in floats. */
export interface IntegerProduct {
  /** DynamicQuantizeLinear of the input. */
  quantize: NodeProto
  /** MatMulInteger or ConvInteger. */
  product: NodeProto
  cast: NodeProto
  /** Multiplies the scales of the input and of the weight. */
  scales: NodeProto
  /** Multiplies the product with both scales. */
  scale: NodeProto
  /** Name of the weight's scale. */
  weightScale: string
}

/** The float operator that five nodes of a dynamically quantized graph stand for; undefined where they do not. */
export function integerProduct(
  graph: GraphProto,
  product: NodeProto,
  outer: readonly GraphProto[],
): IntegerProduct | undefined {
  if (operatorOf(product).integers === undefined) return undefined
  const maker = (value: string) => graph.node.find(({ output }) => output.includes(value))
  const reader = (value: string) => graph.node.find(({ input }) => input.includes(value))
  // Input that several branches quantize is quantized before them.
  const quantize =
    maker(product.input[0]) ??
    outer.flatMap(({ node }) => node).find(({ output }) => output.includes(product.input[0]))
  const cast = reader(product.output[0])
  const scale = cast && reader(cast.output[0])
  if (quantize?.opType !== 'DynamicQuantizeLinear' || cast?.opType !== 'Cast' || scale?.opType !== 'Mul')
    return undefined
  const scales = maker(scale.input[0] === cast.output[0] ? scale.input[1] : scale.input[0])
  if (scales?.opType !== 'Mul') return undefined
  const weightScale = scales.input.find((name) => name !== quantize.output[1])
  return weightScale === undefined ? undefined : { quantize, product, cast, scales, scale, weightScale }
}

/** Whether a weight may go through a node before it is dequantized: the node moves values and does not change them. */
export function movesValues(node: NodeProto): boolean {
  const { view } = operatorOf(node)
  return node.opType === 'Gather' || view === 'order' || view === 'rank'
}

/** Nodes from a DequantizeLinear back to the reader of the integers, first reader first. */
export function dequantizedChain(graph: GraphProto, dequantizeLinear: NodeProto): NodeProto[] {
  const chain: NodeProto[] = []
  for (let value = dequantizeLinear.input[0]; ; ) {
    const node = graph.node.find(({ output }) => output.includes(value))
    if (node === undefined || !movesValues(node)) return chain
    chain.unshift(node)
    value = node.input[0]
  }
}
