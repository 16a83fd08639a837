/**
 * Graph surgery: weights of an ONNX model become inputs, named as the checkpoint names them.
 *
 * @module
 */

export type { Site, SiteKind, SitePart, SiteTensors } from './bypass/sites.ts'
export {
  addBypass,
  type BypassGraph,
  type BypassInput,
  type BypassInputKind,
  type GraphVariant,
  type SiteBypass,
  sideBlockSize,
  sideBlocks,
  sitesOf,
} from './bypass/variants.ts'
export {
  DTYPE_SUFFIX,
  graphFiles,
  isModelDtype,
  type ModelDtype,
  parseGraphFile,
} from './graph/graph_files.ts'
export { type Storage, writeBaseWeights } from './hoist/base_weights.ts'
export type { HoistedWeight } from './hoist/hoist.ts'
export {
  bindingsOf,
  externalFilesOf,
  type GraphFile,
  type HoistedGraphFile,
  type HoistedModel,
  type HoistedTensor,
  type HoistOptions,
  hoistModel,
  type QuantizedChoice,
} from './hoist/hoisted_model.ts'
export { type WeightPiece, weightBytes, weightPieces, weightTable } from './hoist/weight_bytes.ts'
export { type ExternalFiles, type InitializerData, readElements } from './proto/initializer.ts'
export { type IntegerSite, integersOf } from './quantized/integers.ts'
export type { Checkpoint } from './resolve/checkpoint.ts'
export { matchName } from './resolve/names.ts'
export { unusedIn } from './resolve/unused_parameters.ts'
