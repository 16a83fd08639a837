/**
 * Constants that an exporter looked up in a table of the checkpoint, because their positions never change: relative position biases
 * of Swin, BEiT or LeViT, embeddings of fixed positions. The graph gets the table, and looks up in it.
 *
 * @module
 */
import { create } from '@bufbuild/protobuf'
import { floatsToHalves } from '../../format/float16.ts'
import { newInt, newNode } from '../proto/nodes.ts'
import { AttributeProto_AttributeType, AttributeProtoSchema, type NodeProto } from '../proto/onnx_pb.ts'
import { type FoldedGraph, likeliest, type ReadWeight, weightAt } from './folded_graph.ts'

/** Where the rows of a table went in a constant. */
interface Lookup {
  table: string
  /** Its axis that positions run along. */
  axis: 0 | 1
  /** The axis of the constant that is the table's other one. */
  features: number
  /** Positions, in the order of the constant's other axes. */
  positions: readonly number[]
}

/** A table with more values is an embedding of words, which no constant is looked up in. */
const MAX_TABLE = 1 << 22

/** Has the graph look up a constant that a node reads, in place. @returns whether it is out of a table of the checkpoint */
export async function unfoldLookup(graph: FoldedGraph, node: NodeProto, position: number): Promise<boolean> {
  const constant = await weightAt(graph, node, position)
  if (constant === undefined || constant.data.dims.length < 2) return false
  const { values } = graph
  for (const table of likeliest(values.names, node)) {
    const shape = values.shapeOf(table)!
    if (shape.length !== 2 || shape[0] * shape[1] > MAX_TABLE) continue
    const lookup = await lookupIn(graph, table, constant)
    if (lookup === undefined) continue
    if (!graph.isWanted(table)) return false
    rewrite(graph, { node, position, lookup }, constant)
    return true
  }
  return false
}

async function lookupIn(
  { values }: FoldedGraph,
  table: string,
  { data, values: found }: ReadWeight,
): Promise<Lookup | undefined> {
  const shape = values.shapeOf(table)!
  for (const axis of [0, 1] as const) {
    const width = shape[1 - axis]
    for (const [features, size] of data.dims.entries()) {
      if (size !== width || data.length === width) continue
      const rows = rowsAlong(found, data.dims, features)
      const entries =
        axis === 0 ? rowsAlong(await values.of(table), shape, 1) : rowsAlong(await values.of(table), shape, 0)
      const positions =
        positionsOf(rows, entries, data.dtype === 'float16') ??
        windowPositions(table, rows, entries, data.dtype === 'float16')
      if (positions !== undefined) return { table, axis, features, positions }
    }
  }
  return undefined
}

/** A tensor as vectors along one of its axes, in the order of its others. */
interface Rows {
  count: number
  width: number
  at: (row: number, column: number) => number
}

function rowsAlong(values: Float32Array, dims: readonly number[], axis: number): Rows {
  const width = dims[axis]
  const stride = dims.slice(axis + 1).reduce((product, size) => product * size, 1)
  return {
    count: values.length / width,
    width,
    at: (row, column) => values[Math.floor(row / stride) * stride * width + column * stride + (row % stride)],
  }
}

/** Where each row is among the entries; undefined where one is nowhere, or could be in two places. */
function positionsOf(rows: Rows, entries: Rows, isHalf: boolean): number[] | undefined {
  const keyed = keysOf(isHalf)
  const places = new Map<string, number>()
  for (let entry = 0; entry < entries.count; entry++) {
    const key = keyed(entries, entry)
    places.set(key, places.has(key) ? AMBIGUOUS : entry)
  }
  const positions: number[] = []
  for (let row = 0; row < rows.count; row++) {
    const place = places.get(keyed(rows, row))
    if (place === undefined || place === AMBIGUOUS) return undefined
    positions.push(place)
  }
  return positions
}

const AMBIGUOUS = -1

/** Equal for vectors that are the same but for a rounding to f16. */
function keysOf(isHalf: boolean): (rows: Rows, row: number) => string {
  return ({ width, at }, row) => {
    const values = Float32Array.from({ length: width }, (_, column) => at(row, column) + 0)
    if (!isHalf) return new Uint32Array(values.buffer).join()
    // Converters to f16 raise smaller values to that.
    return floatsToHalves(
      values.map((value) => (Math.abs(value) < 1.2e-7 ? Math.sign(value) * 1.2e-7 : value)),
    ).join()
  }
}

/**
 * The positions of a table over the distances of two places in a window, of rows × columns and perhaps a token in front of all: as Swin
 * and BEiT count them. Entries that are alike, as all are before training, do not tell.
 */
function windowPositions(table: string, rows: Rows, entries: Rows, isHalf: boolean): number[] | undefined {
  if (!table.endsWith('relative_position_bias_table')) return undefined
  const places = Math.sqrt(rows.count)
  for (const special of [0, 1]) {
    const area = places - special
    for (let height = 1; height <= area; height++) {
      const width = area / height
      const distances = (2 * height - 1) * (2 * width - 1)
      if (!Number.isInteger(width) || distances + 3 * special !== entries.count) continue
      const positions = Array.from({ length: rows.count }, (_, i) => {
        const [from, to] = [Math.floor(i / places) - special, (i % places) - special]
        if (from < 0 || to < 0) return distances + (from < 0 && to < 0 ? 2 : from < 0 ? 0 : 1)
        const down = Math.floor(from / width) - Math.floor(to / width) + height - 1
        const right = (from % width) - (to % width) + width - 1
        return down * (2 * width - 1) + right
      })
      const keyed = keysOf(isHalf)
      const keys = Array.from({ length: entries.count }, (_, entry) => keyed(entries, entry))
      if (positions.every((position, row) => keys[position] === keyed(rows, row))) return positions
    }
  }
  return undefined
}

interface Place {
  node: NodeProto
  position: number
  lookup: Lookup
}

function rewrite(
  { main, initializers, nodeName }: FoldedGraph,
  { node, position, lookup: { table, axis, features, positions } }: Place,
  { data }: ReadWeight,
): void {
  const { dims } = data
  const others = dims.filter((_, at) => at !== features)
  const module = table.replace(/\.[^.]+$/, '')
  const value = (what: string) => `${table}::${what}`
  const indices = initializers.addIntegers(value('positions'), others, positions)
  const weights = initializers.add(table, data.dtype as 'float32' | 'float16')
  const gathered = `${indices}::rows`
  const nodes = [
    newNode(nodeName(module, 'Gather'), 'Gather', [weights, indices], [gathered], {
      attribute: [newInt('axis', axis)],
    }),
  ]
  // The features are the last axis of what was looked up by rows, and the first by columns.
  const from = axis === 0 ? dims.length - 1 : 0
  let result = gathered
  if (from !== features) {
    const rest = dims.map((_, at) => at).filter((at) => at !== from)
    const perm = dims.map((_, at) => (at === features ? from : rest[at < features ? at : at - 1]))
    result = `${indices}::constant`
    nodes.push(
      newNode(nodeName(module, 'Transpose'), 'Transpose', [gathered], [result], {
        attribute: [
          create(AttributeProtoSchema, {
            name: 'perm',
            ints: perm.map(BigInt),
            type: AttributeProto_AttributeType.INTS,
          }),
        ],
      }),
    )
  }
  main.node.unshift(...nodes)
  node.input[position] = result
}
