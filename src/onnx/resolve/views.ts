import type { GraphIndex, Reader } from '../graph/graph_index.ts'
import { operatorOf } from '../graph/operators.ts'

/** Views in a row that exporters make. */
const MAX_VIEWS = 5

/** What reads an initializer, through views of it: its role is decided there. */
export function readersBehindViews(index: GraphIndex, reader: Reader, depth = 0): Reader[] {
  const isView = operatorOf(reader.node).view !== undefined && reader.position === 0
  if (!isView || depth === MAX_VIEWS) return [reader]
  return index
    .readersOf(reader.graph, reader.node.output[0])
    .flatMap((next) => readersBehindViews(index, next, depth + 1))
}
