/**
 * The GPU engine: weights of the base and compressed experts in VRAM, and kernels that switch between sets of
 * experts in place, bit-exactly. Needs a GPUDevice and nothing else of the browser.
 *
 * @module
 */
export { type AdapterFacts, type Gpu, type GpuOptions, requestGpu, wrapDevice } from './device.ts'
export {
  type ExpertHead,
  ExpertStore,
  type ExpertStoreStats,
  type ExpertUpload,
  type ResidentExpert,
} from './experts/expert_store.ts'
export { type UnpackedPart, Unpacker, type UnpackRequest } from './experts/unpacker.ts'
export { type SetEntry, Switcher, type SwitchTimings } from './switch/switcher.ts'
export {
  type BufferPlacement,
  type QuantizedPlacement,
  type WeightFeed,
  WeightStore,
} from './weights/weight_store.ts'
