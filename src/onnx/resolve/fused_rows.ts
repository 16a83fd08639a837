import type { GraphIndex, Reader } from '../graph/graph_index.ts'
import { operatorOf } from '../graph/operators.ts'
import type { Layout } from '../proto/initializer_data.ts'
import { intAttribute } from '../proto/nodes.ts'
import { partsOfJoined } from './joined_projections.ts'

/** Nodes between a fused projection and its attention: a bias, norms of heads, rotary embeddings. */
const MAX_STEPS = 3

/**
 * Rows of the parts of a joined projection: those of q, k and v from the attention node that it leads to; gate and up
 * have half of them each.
 */
export function fusedRows(
  index: GraphIndex,
  reader: Reader,
  { names, layout }: { names: readonly string[]; layout: Layout },
  dims: readonly number[],
): number[] | undefined {
  if (dims.length > 2 || !names.some((name) => partsOfJoined(name) !== undefined)) return undefined
  const rows = layout === 'transposed' && dims.length === 2 ? dims[1] : dims[0]
  if (names.some((name) => partsOfJoined(name)?.length === 2))
    return rows % 2 === 0 ? [rows / 2, rows / 2] : undefined
  let ends: Reader[] = [reader]
  for (let step = 0; step < MAX_STEPS; step++) {
    ends = ends.flatMap(({ node, graph }) => node.output.flatMap((value) => index.readersOf(graph, value)))
    const attention = ends.find(({ node }) => operatorOf(node).heads !== undefined)?.node
    if (attention === undefined) continue
    const { query, keyValue } = operatorOf(attention).heads!
    const heads = intAttribute(attention, query) ?? 0
    const kvHeads = intAttribute(attention, keyValue) ?? 0
    const size = rows / (heads + 2 * kvHeads)
    return Number.isInteger(size) && size > 0 ? [heads * size, kvHeads * size, kvHeads * size] : undefined
  }
  return undefined
}
