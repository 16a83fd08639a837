import { TritswapError } from '../errors.ts'
import { checkSecureContext } from '../secure_context.ts'

/**
 * The adapter that the engine's device comes from.
 * @throws {TritswapError} `webgpu` when there is no WebGPU or no adapter
 */
export async function requestAdapter(
  powerPreference: GPUPowerPreference = 'high-performance',
): Promise<GPUAdapter> {
  checkSecureContext('Cannot use the GPU')
  const gpu = globalThis.navigator?.gpu
  if (gpu === undefined) {
    throw new TritswapError(
      'webgpu',
      'Cannot use the GPU: WebGPU is missing here; use a current Chrome, Edge, Safari or Firefox',
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
  return adapter
}
