import type { Reader } from '../graph/graph_index.ts'
import { isStandard, operatorOf } from '../graph/operators.ts'
import type { NodeProto } from '../proto/onnx_pb.ts'

/** What is packed into an initializer. */
export interface Packed {
  /** Outputs of q, k and v. */
  sizes: readonly number[]
  /** `weight` or `bias`. */
  kind: 'weight' | 'bias'
  /** The node's own weight, which tells the names of the biases. */
  weight: string
}

/** The parts of what a node reads, where it packs projections there. */
export function packedIn({ node, position }: Reader, dims: readonly number[]): Packed | undefined {
  const { packed } = operatorOf(node)
  if (packed === undefined || isStandard(node)) return undefined
  const kind = position === packed.weight ? 'weight' : position === packed.bias ? 'bias' : undefined
  if (kind === undefined || dims.length !== (kind === 'weight' ? 2 : 1)) return undefined
  const total = dims.at(-1)!
  const sizes = listOf(node, packed.sizes) ?? [total / 3, total / 3, total / 3]
  const fits = sizes.length === 3 && sizes.every((size) => Number.isInteger(size) && size > 0)
  if (!fits || sizes.reduce((a, b) => a + b) !== total) return undefined
  return { sizes, kind, weight: node.input[packed.weight] }
}

function listOf(node: NodeProto, name: string): number[] | undefined {
  return node.attribute.find((attribute) => attribute.name === name)?.ints.map(Number)
}
