import { type Gpu, wrapDevice } from '../../src/gpu/index.ts'

export interface RecordingGpu {
  gpu: Gpu
  /** Calls since the start. */
  counts: { dispatches: number; bindGroups: number; buffers: number; submissions: number }
  /** Kernels that were compiled, by name. */
  compiled: string[]
}

/** Constants of WebGPU, which Node lacks. */
const CONSTANTS = {
  GPUBufferUsage: {
    MAP_READ: 1,
    COPY_SRC: 4,
    COPY_DST: 8,
    UNIFORM: 64,
    STORAGE: 128,
    QUERY_RESOLVE: 512,
  },
  GPUMapMode: { READ: 1 },
  GPUShaderStage: { COMPUTE: 4 },
}

/**
 * A GPU that accepts everything and does nothing: what a switch asks of a device shows in Node, with whatever limits a real
 * one may have.
 * @param storageBuffers - `maxStorageBuffersPerShaderStage`; a layout with more throws
 */
export function recordingGpu(storageBuffers: number): RecordingGpu {
  for (const [name, values] of Object.entries(CONSTANTS)) Reflect.set(globalThis, name, values)
  const counts = { dispatches: 0, bindGroups: 0, buffers: 0, submissions: 0 }
  const compiled: string[] = []
  const pass = {
    setPipeline() {},
    setBindGroup() {},
    dispatchWorkgroups: () => counts.dispatches++,
    end() {},
  }
  const encoder = {
    beginComputePass: () => pass,
    clearBuffer() {},
    copyBufferToBuffer() {},
    resolveQuerySet() {},
    finish: () => ({}),
  }
  const device = {
    limits: {
      maxStorageBuffersPerShaderStage: storageBuffers,
      maxBufferSize: 2 ** 32,
      maxStorageBufferBindingSize: 2 ** 32 - 4,
    },
    features: new Set<string>(),
    lost: new Promise(() => {}),
    queue: {
      writeBuffer() {},
      submit: () => counts.submissions++,
      onSubmittedWorkDone: async () => {},
    },
    createBuffer({ size }: GPUBufferDescriptor) {
      counts.buffers++
      return {
        size,
        mapAsync: async () => {},
        getMappedRange: () => new ArrayBuffer(size),
        unmap() {},
        destroy() {},
      }
    },
    createBindGroupLayout: ({ entries }: GPUBindGroupLayoutDescriptor) => [...entries],
    createPipelineLayout({ bindGroupLayouts }: GPUPipelineLayoutDescriptor) {
      const entries = (bindGroupLayouts as unknown as GPUBindGroupLayoutEntry[][]).flat()
      const storage = entries.filter(({ buffer }) => buffer?.type !== 'uniform').length
      if (storage > storageBuffers) throw new Error(`${storage} storage buffers in a stage`)
      return {}
    },
    createBindGroup() {
      counts.bindGroups++
      return {}
    },
    createShaderModule: () => ({}),
    async createComputePipelineAsync({ label = '' }: GPUComputePipelineDescriptor) {
      compiled.push(label)
      return { label }
    },
    createCommandEncoder: () => encoder,
    pushErrorScope() {},
    popErrorScope: async () => null,
    destroy() {},
  }
  return { gpu: wrapDevice(device as unknown as GPUDevice, undefined), counts, compiled }
}
