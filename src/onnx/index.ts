/**
 * Graph surgery: weights of an ONNX model become inputs, named as the checkpoint names them.
 *
 * Rooms, each importing from those before it: proto (the file format) ← graph (a parsed graph and the table of
 * operators) ← resolve (names) ← quantized (weights in other numbers), unfold (what exporters ran in advance) ← hoist
 * (weights become inputs), bypass (experts beside weights).
 *
 * @module
 */

export {
  type BypassInput,
  type SiteBypass,
  sideBlockSize,
  sideBlocks,
} from './bypass/bypass_inputs.ts'
export type { Site, SitePart } from './bypass/site.ts'
export { addBypass, type BypassGraph, sitesOf } from './bypass/variants.ts'
export { externalFilesOf } from './graph/external_files.ts'
export { type ChosenGraphs, graphFiles, parseGraphFile } from './graph/graph_files.ts'
export { type GraphFile, OnnxGraph } from './graph/onnx_graph.ts'
export { type Storage, writeBaseWeights } from './hoist/base_weights.ts'
export type { HoistedWeight } from './hoist/graph_inputs.ts'
export { hoistModel, type QuantizedChoice } from './hoist/hoist_model.ts'
export { bindingsOf, type HoistedModel } from './hoist/hoisted_model.ts'
export { FIRST_LOGIT } from './hoist/last_logits.ts'
export type { HoistedGraphFile } from './hoist/rewrite.ts'
export { graphWithStored, type StoredInput, scoringGraph } from './hoist/scoring_graph.ts'
export { withStoredWeights } from './hoist/stored_weights.ts'

export { weightBytes, weightPieces } from './hoist/weight_pieces.ts'
export { weightTable } from './hoist/weight_table.ts'
export { readElements } from './proto/initializer_data.ts'

export { integersOf } from './quantized/integer_records.ts'
export type { IntegerSite } from './quantized/integer_site.ts'
export type { Checkpoint } from './resolve/checkpoint.ts'
export { matchName, nameMatcher } from './resolve/names.ts'
export { unusedIn } from './resolve/unused_parameters.ts'
