import { type HoistedInput, tilingOf } from '../../format/index.ts'
import type { GraphIndex, Reader } from '../graph/graph_index.ts'
import { operatorOf } from '../graph/operators.ts'
import type { SiteBias, SiteOccurrence, SiteTensors } from './site.ts'

/** A product, with the name of the bias that is in its output. */
export interface BiasedOccurrence {
  occurrence: SiteOccurrence
  bias?: string
}

/** The product that a node computes with the weight that it reads. */
export function occurrenceAt({ node, graph }: Reader): SiteOccurrence {
  const position = operatorOf(node).product!.data
  return {
    graph,
    readers: [{ node, position, graph }],
    input: node.input[position],
    output: node.output[0],
    maker: node,
    node,
    views: [],
  }
}

/** Follows a product to the addition of its bias. */
export function withBias(
  index: GraphIndex,
  occurrence: SiteOccurrence,
  inputs: ReadonlyMap<string, HoistedInput>,
): BiasedOccurrence {
  const { node, graph, output } = occurrence
  const { product } = operatorOf(node)
  const own = product?.bias === undefined ? undefined : node.input[product.bias]
  if (own || product?.kind === 'embedding') return { occurrence, bias: own }
  const isResult = graph.output.some(({ name }) => name === output)
  const [add, ...others] = index.readersOf(graph, output)
  if (isResult || others.length > 0 || add?.node.opType !== 'Add' || add.graph !== graph)
    return { occurrence }
  const bias = add.node.input[1 - add.position]
  if (inputs.get(bias)?.dims.length !== 1) return { occurrence }
  return { occurrence: { ...occurrence, output: add.node.output[0], maker: add.node }, bias }
}

/** The tensors of the container that are a bias. */
export function biasesOf(
  bias: string | undefined,
  inputs: ReadonlyMap<string, HoistedInput>,
  tensors: SiteTensors,
): SiteBias[] {
  const parts = (bias && inputs.get(bias)?.parts) || []
  return parts.flatMap(({ tensor, offset, colStride }) => {
    const found = tensors.get(tensor)
    if (found === undefined || colStride !== 1) return []
    const { rows, cols } = tilingOf(found.shape)
    return rows === 1 ? [{ target: found.target, firstOutput: offset, outputs: cols }] : []
  })
}
