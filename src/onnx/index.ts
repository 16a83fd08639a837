/**
 * Graph surgery: weights of an ONNX model become inputs, named as the checkpoint names them.
 *
 * @module
 */
export { type Storage, writeBaseWeights } from './base_weights.ts'
export type { Checkpoint } from './checkpoint.ts'
export { DTYPE_SUFFIX, graphFiles, isModelDtype, type ModelDtype, parseGraphFile } from './files.ts'
export type { HoistedWeight } from './hoist.ts'
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
} from './hoisted_model.ts'
export { type ExternalFiles, type InitializerData, readElements } from './initializer.ts'
export { type IntegerSite, integersOf } from './integers.ts'
export { unusedIn } from './modules.ts'
export { matchName } from './names.ts'
export type { Site, SiteKind, SitePart, SiteTensors } from './sites.ts'
export {
  addSlots,
  type GraphVariant,
  type SiteSlots,
  type SlotGraph,
  type SlotInput,
  type SlotKind,
  sideBlockSize,
  sideBlocks,
  sitesOf,
} from './slots.ts'
export { type WeightPiece, weightBytes, weightPieces, weightTable } from './weight_bytes.ts'
