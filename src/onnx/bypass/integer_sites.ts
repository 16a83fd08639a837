import { tilingOf, weightsOf } from '../../format/index.ts'
import { operatorOf } from '../graph/operators.ts'
import type { GraphProto, NodeProto } from '../proto/onnx_pb.ts'
import { dequantizedChain, integerProduct } from '../quantized/integer_product.ts'
import type { IntegerSite } from '../quantized/integer_site.ts'
import type { SiteOccurrence } from './site.ts'
import type { SiteWeight } from './site_weight.ts'

export function integerWeight({ weight, kind, dims, parts }: IntegerSite): SiteWeight {
  const [first, ...rest] = dims
  const size = weightsOf(rest)
  return {
    key: `${weight}:${kind}`,
    weight,
    kind,
    dtype: 'float32',
    quantized: true,
    ...(kind === 'conv' ? { inputs: size, outputs: first, kernel: rest } : { inputs: first, outputs: size }),
    parts: parts.map(({ target, shape, firstOutput, transposed }) => {
      const { rows, cols } = tilingOf(shape)
      return { target, rows, cols, firstOutput, transposed }
    }),
  }
}

/** Where a graph has the product with a weight of integers. */
export function integerOccurrence(
  graph: GraphProto,
  { output }: IntegerSite,
  graphs: readonly GraphProto[],
): SiteOccurrence | undefined {
  const maker = graph.node.find((node) => node.output.includes(output))
  if (maker === undefined) return undefined
  const common = { graph, output, maker, views: [] }
  const readAt = (node: NodeProto, position: number) => ({
    readers: [{ node, position, graph }],
    input: node.input[position],
  })
  const { product } = operatorOf(maker)
  if (product?.kind === 'linear') return { ...common, ...readAt(maker, product.data), node: maker }
  if (maker.opType === 'DequantizeLinear') {
    const [gather, ...views] = dequantizedChain(graph, maker)
    if (gather === undefined || operatorOf(gather).product?.kind !== 'embedding') return undefined
    return { ...common, ...readAt(gather, operatorOf(gather).product!.data), node: gather, views }
  }
  for (const node of graph.node) {
    const integers = integerProduct(graph, node, graphs)
    if (integers?.scale === maker)
      return { ...common, ...readAt(integers.quantize, 0), node, product: integers }
  }
  return undefined
}
