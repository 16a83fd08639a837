/**
 * The GPU engine: weights of the base and compressed experts in VRAM, and kernels that switch between sets of
 * experts in place, bit-exactly. It needs nothing of the browser but a GPUDevice.
 *
 * @module
 */
export { type AdapterFacts, type Gpu, requestGpu, wrapDevice } from './device.ts'
export { ExpertStore } from './experts/expert_store.ts'
export type { ExpertUpload } from './experts/expert_upload.ts'
export type { ResidentExpert } from './experts/resident_expert.ts'
export { type UnpackedPart, Unpacker, type UnpackRequest } from './experts/unpacker.ts'
export { canCompute, checkDtype } from './f16.ts'
export { isSameSet, type SetEntry } from './switch/active_set.ts'
export { type GpuTimings, Switcher, type SwitchOptions, type SwitchTimings } from './switch/switcher.ts'
export { WeightStore } from './weights/weight_store.ts'
