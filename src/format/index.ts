/**
 * The `.trit` file format (docs/FORMAT.md): reading, writing and the reference codec.
 *
 * @module
 */
export {
  type BaseBindings,
  bindingsFrom,
  ELEMENT_BYTES,
  type HoistedGraph,
  type HoistedInput,
  type Placement,
} from './bindings.ts'
export { decodeDense, encodeDense } from './codecs/dense.ts'
export {
  type BlocksCode,
  type BlocksComponent,
  type BlocksLayout,
  blocksLayout,
  blocksReader,
  type ComponentLayout,
  decodeBlocks,
} from './codecs/nbits.ts'
export {
  type BlockedEntries,
  decodeTernary,
  encodeBlocks,
  encodeTernary,
  type TernaryEntries,
  type TernarySection,
  ternaryDecodeCalls,
} from './codecs/ternary.ts'
export { type FingerprintEntry, fingerprintOf, HASH_SLICE, hashSlices } from './fingerprint.ts'
export { fromHalf, toHalf } from './float16.ts'
export {
  buildHead,
  chunkLength,
  type Prefix,
  parseHead,
  parsePrefix,
  readHead,
  type TritHead,
  verifyChunk,
} from './head.ts'
export * from './limits.ts'
export { chunkRanges, type FetchPlan, type FetchRange, type PlanOptions, planFetch } from './plan.ts'
export { decodeValues, readSection, ternarySection } from './section.ts'
export { sha256, toHex } from './sha256.ts'
export { compareSketch, sketchOf, sketchPositions, type WeightDtype } from './sketch.ts'
export * from './table.ts'
export { type Tile, type Tiling, tileAt, tilingOf, weightsOf } from './tiling.ts'
export { memorySpool, type NewTensorWithoutBytes, type PayloadSpool, TritWriter } from './writer.ts'
