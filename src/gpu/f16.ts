/**
 * Dtypes that compute in f16, which not every GPU does: refused before anything of a model is fetched.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'

const isF16 = (dtype: string): boolean => /fp?16$/.test(dtype)

/** Whether a GPU can compute in the dtype of a graph, as transformers.js names it. */
export function canCompute(features: { readonly f16: boolean }, dtype: string): boolean {
  return features.f16 || !isF16(dtype)
}

/**
 * @param dtype - of a graph, as transformers.js names it
 * @throws {TritswapError} `webgpu` for one that the GPU cannot compute in
 */
export function checkDtype(features: { readonly f16: boolean }, dtype: string): void {
  if (canCompute(features, dtype)) return
  throw new TritswapError(
    'webgpu',
    'Cannot run a graph with f16 weights: this GPU, or the browser for it, lacks shader-f16; use another dtype',
    { fields: { missing: 'shader-f16' } },
  )
}

/** The same without a device: asks the adapter that one would come from. */
export async function checkAdapterFor(dtype: string): Promise<void> {
  if (!isF16(dtype)) return
  const adapter = await globalThis.navigator?.gpu?.requestAdapter({ powerPreference: 'high-performance' })
  // Without an adapter the engine says what is missing.
  if (adapter) checkDtype({ f16: adapter.features.has('shader-f16') }, dtype)
}
