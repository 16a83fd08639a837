import { TritswapError } from '../errors.ts'

/** What is known of the adapter behind a device; empty texts where the browser hides it. */
export interface AdapterFacts {
  vendor: string
  architecture: string
  device: string
  description: string
  /** A CPU that plays GPU (SwiftShader, llvmpipe, WARP). */
  software: boolean
}

/** A device and what our kernels need to know of it. */
export interface Gpu {
  readonly device: GPUDevice
  readonly adapter: AdapterFacts
  readonly features: { readonly timestamps: boolean; readonly subgroups: boolean; readonly f16: boolean }
}

export interface GpuOptions {
  powerPreference?: GPUPowerPreference
  /** Called once if the device is lost for any reason but `device.destroy()`. */
  onLost?: (info: GPUDeviceLostInfo) => void
}

const OPTIONAL_FEATURES = ['timestamp-query', 'subgroups', 'shader-f16'] as const

/**
 * Subgroups narrower than this are not asked for: onnxruntime-web's attention takes 32 query rows or more wrongly on
 * SwiftShader's subgroups of 4 (logits off by 2.6 where its path without subgroups is off by 1e-5), and no GPU has
 * fewer than 8.
 */
const MIN_SUBGROUP = 8

/** Limits that are worth having as high as the adapter goes: all the others are plenty by default. */
const WANTED_LIMITS = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxStorageBuffersPerShaderStage',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupSizeX',
] as const

/**
 * A device with the adapter's largest buffers and every optional feature that our kernels or onnxruntime-web use.
 * @throws {TritswapError} `webgpu` when there is no WebGPU, no adapter or no device
 */
export async function requestGpu({
  powerPreference = 'high-performance',
  onLost,
}: GpuOptions = {}): Promise<Gpu> {
  const gpu = globalThis.navigator?.gpu
  if (gpu === undefined) {
    throw new TritswapError(
      'webgpu',
      'Cannot use the GPU: WebGPU is missing here; use a current Chrome, Edge, Safari or Firefox, on https or localhost',
      { fields: { missing: 'navigator.gpu' } },
    )
  }
  const adapter = await gpu.requestAdapter({ powerPreference })
  if (adapter === null) {
    throw new TritswapError(
      'webgpu',
      'Cannot use the GPU: the browser has WebGPU but found no adapter; update the graphics driver, or turn on hardware acceleration',
      { fields: { missing: 'adapter' } },
    )
  }
  const requiredLimits: Record<string, number> = {}
  for (const limit of WANTED_LIMITS) requiredLimits[limit] = adapter.limits[limit]
  let device: GPUDevice
  try {
    device = await adapter.requestDevice({
      label: 'tritswap',
      requiredLimits,
      requiredFeatures: OPTIONAL_FEATURES.filter(
        (feature) =>
          adapter.features.has(feature) &&
          (feature !== 'subgroups' || (adapter.info?.subgroupMinSize ?? MIN_SUBGROUP) >= MIN_SUBGROUP),
      ),
    })
  } catch (cause) {
    throw new TritswapError(
      'webgpu',
      'Cannot use the GPU: the adapter gives no device; reload the page or restart the browser',
      {
        fields: { missing: 'device' },
        cause,
      },
    )
  }
  if (onLost !== undefined) {
    device.lost.then((info) => {
      if (info.reason !== 'destroyed') onLost(info)
    })
  }
  return wrapDevice(device, adapter.info)
}

/**
 * A device that somebody else made: onnxruntime-web's own, or one of the npm package `webgpu` in Node.
 * @param info - of its adapter, where `device.adapterInfo` is missing
 */
export function wrapDevice(device: GPUDevice, info: GPUAdapterInfo | undefined = device.adapterInfo): Gpu {
  const { vendor = '', architecture = '', device: name = '', description = '' } = info ?? {}
  const all = `${vendor} ${architecture} ${name} ${description}`
  return {
    device,
    adapter: {
      vendor,
      architecture,
      device: name,
      description,
      software:
        info?.isFallbackAdapter === true || /swiftshader|llvmpipe|lavapipe|warp|basic render/i.test(all),
    },
    features: {
      timestamps: device.features.has('timestamp-query'),
      subgroups: device.features.has('subgroups'),
      f16: device.features.has('shader-f16'),
    },
  }
}
