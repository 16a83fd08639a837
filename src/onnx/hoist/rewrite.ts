/**
 * The rewriting of one graph. Its steps change the graph in place and work in one order alone, so each takes what the
 * step before it returns:
 *
 * 1. `viewed`: products whose weights are one tensor in the checkpoint are one, and quantized weights are float initializers, so that all weights are found and named by the same rules.
 * 2. `floatsHoisted`: float initializers that were chosen are inputs. A view that is one now stays a float weight.
 * 3. `restored`: views that still are initializers are quantized nodes again.
 * 4. `hoisted`: quantized weights that were chosen are inputs, and what nothing reads any more is gone.
 * 5. A file again: data files beside it are put inline where they are small, and integer weights are recorded.
 *
 * @module
 */
import { indexGraph } from '../graph/graph_index.ts'
import { liftConstants } from '../graph/lift_constants.ts'
import { type GraphFile, OnnxGraph } from '../graph/onnx_graph.ts'
import { quantizedNodes } from '../graph/operators.ts'
import { serializeModel } from '../proto/model.ts'
import { type GraphProto, type ModelProto, TensorProto_DataLocation } from '../proto/onnx_pb.ts'
import { type ExternalFiles, locateBytes } from '../proto/tensor_bytes.ts'
import {
  dropUnread,
  type FloatView,
  quantizedNodesOf,
  restoreQuantized,
  viewAsFloats,
} from '../quantized/float_view.ts'
import { recordIntegers } from '../quantized/integer_records.ts'
import type { IntegerSite } from '../quantized/integer_site.ts'
import type { ResolvedParameter } from '../resolve/resolution.ts'
import type { HoistedWeight } from './graph_inputs.ts'
import { hoistFloats } from './hoist_floats.ts'
import { hoistQuantized, type QuantizedWeight } from './hoist_quantized.ts'
import type { InputNames } from './input_names.ts'
import { joinProjections } from './join_projections.ts'
import { firstRowsOf } from './tensor_rows.ts'

interface Rewriting<Step extends string> {
  step: Step
  file: string
  external: ExternalFiles
  model: ModelProto
  view: FloatView
}

export type ViewedGraph = Rewriting<'viewed'>

interface GraphWithFloatInputs extends Rewriting<'floatsHoisted'> {
  weights: HoistedWeight[]
}

interface RestoredGraph extends Rewriting<'restored'> {
  weights: HoistedWeight[]
}

interface GraphWithInputs extends Rewriting<'hoisted'> {
  weights: HoistedWeight[]
}

/** Rotary tables and the like are put inline; what is left of a quantized model beyond this stays external. */
const MAX_INLINE_BYTES = 256 << 20

/** A graph without weights in Constant nodes, to edit. */
export function editable({ graph, external }: GraphFile): {
  file: string
  external: ExternalFiles
  model: ModelProto & { graph: GraphProto }
  main: GraphProto
} {
  const model = graph.copy()
  liftConstants(model.graph)
  return { file: graph.file, external, model, main: model.graph }
}

/** Step 1. @param isJoined - whether a weight that the graph may have in parts is one tensor in the checkpoint */
export function view(source: GraphFile, isJoined: (parameter: string) => boolean): ViewedGraph {
  const { file, model, main, ...own } = editable(source)
  const external = joinProjections(model, own.external, isJoined)
  return { step: 'viewed', file, external, model, view: viewAsFloats(main, external) }
}

/** Steps 2 to 4. @param quantized - those of `parameters` that stay quantized */
export function hoist(
  graph: ViewedGraph,
  parameters: { floats: readonly ResolvedParameter[]; quantized: readonly ResolvedParameter[] },
  names: InputNames,
): GraphWithInputs {
  const quantized = parameters.quantized.map((entry) => quantizedWeight(graph.view, entry))
  const withFloats = takeFloats(graph, parameters.floats, names)
  return takeQuantized(restore(withFloats), quantized, names)
}

function takeFloats(
  graph: ViewedGraph,
  floats: readonly ResolvedParameter[],
  names: InputNames,
): GraphWithFloatInputs {
  return { ...graph, step: 'floatsHoisted', weights: hoistFloats(graph.view.main, floats, names) }
}

function restore(graph: GraphWithFloatInputs): RestoredGraph {
  restoreQuantized(graph.view)
  return { ...graph, step: 'restored' }
}

function takeQuantized(
  graph: RestoredGraph,
  quantized: readonly QuantizedWeight[],
  names: InputNames,
): GraphWithInputs {
  const weights = [...graph.weights, ...hoistQuantized(graph.view.main, quantized, names)]
  dropUnread(graph.view)
  return { ...graph, step: 'hoisted', weights }
}

function quantizedWeight(view: FloatView, entry: ResolvedParameter): QuantizedWeight {
  const matrix = entry.data.matrix!
  const nodes = quantizedNodesOf(view, entry.parameter.tensor, entry.readers)
  return { matrix, nodes, parts: firstRowsOf(matrix, entry)! }
}

/** A graph without the weights that became its inputs. */
export interface HoistedGraphFile {
  graph: OnnxGraph
  weights: readonly HoistedWeight[]
}

/** Step 5. @returns also the names of nodes whose weights stayed quantized */
export async function finish(
  { file, model, external, view, weights }: GraphWithInputs,
  integers: readonly IntegerSite[],
): Promise<HoistedGraphFile & { quantized: string[] }> {
  await inlineExternalData(view.main, external)
  recordIntegers(model, integers)
  const quantized = quantizedNodes(indexGraph(view.main).graphs.flatMap(({ node }) => node))
  return { graph: new OnnxGraph(file, serializeModel(model)), weights, quantized }
}

async function inlineExternalData(main: GraphProto, external: ExternalFiles): Promise<void> {
  const stored = indexGraph(main)
    .initializers.filter(({ tensor }) => tensor.dataLocation === TensorProto_DataLocation.EXTERNAL)
    .map(({ tensor }) => locateBytes(tensor, external))
  if (stored.reduce((sum, { bytes }) => sum + bytes, 0) > MAX_INLINE_BYTES) return
  for (const { tensor, source, offset, bytes } of stored) {
    tensor.rawData = await source.read(offset, bytes)
    tensor.dataLocation = TensorProto_DataLocation.DEFAULT
    tensor.externalData = []
  }
}
