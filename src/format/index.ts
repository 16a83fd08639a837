/**
 * The `.trit` file format (docs/FORMAT.md): reading, writing and the reference codec.
 *
 * @module
 */
export {
  type BaseBindings,
  bindingsFrom,
  type HoistedGraph,
  type HoistedInput,
  type Placement,
} from './bindings.ts'
export { decodeDense, encodeDense } from './codecs/dense.ts'
export { decodeValues } from './codecs/index.ts'
export type { NBitsTensor as BlocksTensor } from './codecs/nbits.ts'
export {
  type ComponentLayout,
  decodeNBits as decodeBlocks,
  type NBitsCode as BlocksCode,
  type NBitsComponent as BlocksComponent,
  type NBitsLayout as BlocksLayout,
  nbitsLayout as blocksLayout,
  nbitsReader as blocksReader,
} from './codecs/nbits_decode.ts'
export { decodeTerms, encodeTerms, type Terms, type TermsPacking } from './codecs/terms_code.ts'
export { ternarySection } from './codecs/ternary.ts'
export {
  decodeTernary,
  type TernaryEntries,
  type TernarySection,
  ternaryDecodeCalls,
} from './codecs/ternary_decode.ts'
export { type BlockedEntries, encodeBlocks, encodeTernary } from './codecs/ternary_encode.ts'
export { ELEMENT_BYTES, type FloatDtype, type InputDtype, type WeightDtype } from './dtype.ts'
export { type FingerprintEntry, fingerprintOf, HASH_SLICE, hashSlices } from './fingerprint.ts'
export { fromHalf, toHalf } from './float16.ts'
export {
  buildHead,
  chunkLength,
  parseHead,
  readHead,
  type TritHead,
  verifyChunk,
} from './head.ts'
export * from './limits.ts'
export { chunkRanges, type FetchPlan, type FetchRange, type PlanOptions, planFetch } from './plan.ts'
export { type Prefix, parsePrefix } from './prefix.ts'
export { readSection } from './section.ts'
export { sha256, toHex } from './sha256.ts'
export {
  type BaseComparison,
  compareBase,
  compareSketch,
  type SketchedTensor,
  type SketchVerdict,
  sketchOf,
  sketchPositions,
} from './sketch.ts'
export * from './table.ts'
export { type Tile, type Tiling, tileAt, tilingOf, weightsOf } from './tiling.ts'
export { memorySpool, type NewTensorWithoutBytes, type PayloadSpool, TritWriter } from './writer.ts'
