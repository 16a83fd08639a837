import { type Placement, sketchPositions, tilingOf, weightsOf } from '../../format/index.ts'
import { type GraphIndex, indexGraph } from '../graph/graph_index.ts'
import { type InitializerData, initializerData, readElements } from '../proto/initializer_data.ts'
import type { GraphProto, NodeProto } from '../proto/onnx_pb.ts'
import type { ExternalFiles } from '../proto/tensor_bytes.ts'
import type { Checkpoint } from '../resolve/checkpoint.ts'
import { findParameters } from '../resolve/parameters.ts'
import type { LocatedParameter, ResolvedParameter } from '../resolve/resolution.ts'
import { resolveParameters } from '../resolve/resolve.ts'
import { readersBehindViews } from '../resolve/views.ts'
import { partOf, weightMatrixOf } from '../resolve/weight_matrix.ts'
import { movesValues } from './integer_product.ts'
import type { IntegerPart, IntegerSite } from './integer_site.ts'
import { viewIntegersAsFloats } from './integer_view.ts'

/** A graph that may be edited at will. */
interface EditableGraph {
  file: string
  main: GraphProto
  external: ExternalFiles
}

/**
 * Finds the integer weights of all graphs of a model, by the names of the checkpoint.
 * @param graphs - copies that the search may use up
 * @returns sites by file; graphs without any are left out
 */
export async function findIntegers(
  graphs: readonly EditableGraph[],
  options: { checkpoint?: Checkpoint; modelType?: string },
): Promise<Map<string, IntegerSite[]>> {
  const found = new Map<string, IntegerSite[]>()
  const views = graphs.map(({ file, main, external }) => {
    const view = viewIntegersAsFloats(main, external)
    return { ...view, file, external, index: indexGraph(main) }
  })
  if (views.every(({ integers }) => integers.size === 0)) return found
  const located = views.flatMap(({ file, external, index, data }) =>
    findParameters(index).map((parameter): LocatedParameter => {
      const { tensor } = parameter
      return { file, parameter, data: data.get(tensor) ?? initializerData(tensor, external) }
    }),
  )
  const { resolved } = await resolveParameters(located, options)
  for (const { file, index, integers } of views) {
    const sites = new Map<string, IntegerSite>()
    for (const entry of resolved.filter((candidate) => candidate.file === file)) {
      const weight = integers.get(entry.parameter.tensor)
      if (weight === undefined) continue
      for (const site of await sitesOf(index, weight, entry))
        if (!sites.has(site.output)) sites.set(site.output, site)
    }
    if (sites.size > 0) found.set(file, [...sites.values()])
  }
  return found
}

/** The products with a weight, and lookups in it. */
async function sitesOf(index: GraphIndex, weight: string, entry: ResolvedParameter): Promise<IntegerSite[]> {
  const { tensor } = entry.parameter
  const readers =
    entry.readers ?? index.initializers.find((initializer) => initializer.tensor === tensor)!.readers
  const sites: IntegerSite[] = []
  for (const reader of readers) {
    for (const end of readersBehindViews(index, reader)) {
      const isTransposed = end !== reader && reader.node.opType === 'Transpose'
      const site = await siteOf(end.node, isTransposed, weight, entry, index)
      if (site !== undefined) sites.push(site)
    }
  }
  return sites
}

async function siteOf(
  node: NodeProto,
  isTransposed: boolean,
  weight: string,
  { data, parts, shapes }: ResolvedParameter,
  index: GraphIndex,
): Promise<IntegerSite | undefined> {
  const matrix = weightMatrixOf(node, data.dims, isTransposed)
  if (matrix === undefined) return undefined
  const { kind, inputs, outputs, kernel = [] } = matrix
  const found: IntegerPart[] = []
  for (const part of parts) {
    const target = part.tensor
    const shape = shapes.get(target)!
    const lies = partOf(matrix, part, shape)
    if (lies === undefined) return undefined
    found.push({ target, shape, ...lies, sketch: await sketchOf(data, part, target, shape) })
  }
  const output = kind === 'embedding' ? lookedUp(index, node) : node.output[0]
  if (output === undefined) return undefined
  return {
    output,
    kind,
    weight,
    dims: kind === 'conv' ? [outputs, ...kernel] : [inputs, outputs],
    parts: found,
  }
}

async function sketchOf(
  data: InitializerData,
  { offset, rowStride, colStride }: Placement,
  target: string,
  shape: readonly number[],
): Promise<number[]> {
  const { cols } = tilingOf(shape)
  const sketch: number[] = []
  for (const position of sketchPositions(target, weightsOf(shape))) {
    const at = offset + Math.floor(position / cols) * rowStride + (position % cols) * colStride
    sketch.push((await readElements(data, at, 1))[0])
  }
  return sketch
}

/** The floats that a lookup of integers ends in: in the view, after the Identity that was a DequantizeLinear. */
function lookedUp({ graphs }: GraphIndex, gather: NodeProto): string | undefined {
  const graph = graphs.find(({ node }) => node.includes(gather))
  for (let [value] = gather.output; ; ) {
    const [next, ...others] = graph!.node.filter(({ input }) => input.includes(value))
    if (next === undefined || others.length > 0 || !movesValues(next)) return undefined
    value = next.output[0]
    if (next.opType === 'Identity') return value
  }
}
