import { TritswapError } from '../errors.ts'
import { requestAdapter } from './adapter.ts'
import type { Tuning } from './tuning.ts'

/** What is known of the adapter of a device; the browser may hide it, then the texts are empty. */
export interface AdapterFacts {
  vendor: string
  architecture: string
  device: string
  description: string
  /** Whether it runs on the CPU (SwiftShader, llvmpipe, WARP). */
  software: boolean
}

/** A device and what the kernels need to know about it. */
export interface Gpu {
  readonly device: GPUDevice
  readonly adapter: AdapterFacts
  readonly features: { readonly timestamps: boolean; readonly f16: boolean }
  /** Aborts when the device is lost, `device.destroy()` included; its reason is a `device-lost` error. */
  readonly lost: AbortSignal
  /** Takes the place of what the class of the adapter suggests. */
  readonly tuning?: Partial<Tuning>
}

export interface GpuOptions {
  powerPreference?: GPUPowerPreference
  /** Called once when the device is lost, by `device.destroy()` too. */
  onLost?: (info: GPUDeviceLostInfo) => void
}

const OPTIONAL_FEATURES = ['timestamp-query', 'subgroups', 'shader-f16'] as const

/**
 * Smallest subgroup for which the feature is requested. On SwiftShader's subgroups of 4, onnxruntime-web's attention
 * computes 32 or more query rows wrongly (logits off by 2.6, against 1e-5 without subgroups); no GPU has fewer than 8.
 */
const MIN_SUBGROUP = 8

/** Limits that are requested as high as the adapter goes; the defaults of the others suffice. */
const WANTED_LIMITS = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxStorageBuffersPerShaderStage',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupSizeX',
] as const

/**
 * A device with the adapter's largest buffers and every optional feature that the kernels or onnxruntime-web use.
 * @throws {TritswapError} `webgpu` when there is no WebGPU, no adapter or no device
 */
export async function requestGpu({
  powerPreference = 'high-performance',
  onLost,
}: GpuOptions = {}): Promise<Gpu> {
  const adapter = await requestAdapter(powerPreference)
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
  if (onLost !== undefined) device.lost.then(onLost)
  return wrapDevice(device, adapter.info)
}

/**
 * A device that was created elsewhere: by onnxruntime-web, or by the npm package `webgpu` in Node.
 * @param info - of its adapter, for browsers without `device.adapterInfo`
 */
export function wrapDevice(device: GPUDevice, info: GPUAdapterInfo | undefined = device.adapterInfo): Gpu {
  const { vendor = '', architecture = '', device: name = '', description = '' } = info ?? {}
  const lost = new AbortController()
  device.lost.then(({ message }) => lost.abort(lostError(message)))
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
      f16: device.features.has('shader-f16'),
    },
    lost: lost.signal,
  }
}

function lostError(message: string): TritswapError {
  return new TritswapError(
    'device-lost',
    `Cannot go on: the GPU device was lost (${message}); a loader starts a new one with the next call, attached sessions must be created anew`,
  )
}
