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
} from './expert_store.ts'
export { type SetEntry, Switcher, type SwitchTimings } from './switcher.ts'
export { type UnpackedPart, Unpacker, type UnpackRequest } from './unpacker.ts'
export { type KeptPlace, type Placed, type WeightFeed, WeightStore } from './weight_store.ts'
