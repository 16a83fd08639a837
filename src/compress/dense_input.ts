import { FLOAT_BYTES, type FloatDtype } from '../format/dtype.ts'
import type { TensorRole } from '../format/tensor.ts'
import type { TritWriter } from '../format/writer.ts'
import type { RunJob } from './jobs.ts'
import type { StoredTensor } from './safetensors.ts'
import { flatSlices } from './slices.ts'

/**
 * Writes a delta that an author's own method made as it is, in its own dtype, or in f32 where the format lacks it.
 * @throws {TritswapError} `input` for NaN and infinities, with name and index
 */
export async function writeDelta(
  writer: TritWriter,
  theta: StoredTensor,
  run: RunJob,
  signal?: AbortSignal,
): Promise<{ name: string; shape: readonly number[]; role: TensorRole; target: string }> {
  const { name, shape, weights } = theta
  const common = { name, shape, role: 'delta' as const, target: name }
  const dtype: FloatDtype = theta.dtype === 'F16' ? 'f16' : 'f32'
  writer.begin({ ...common, codec: 'dense', dtype }, weights * FLOAT_BYTES[dtype])
  for (const slice of flatSlices(weights)) {
    // Statistics find what is not finite.
    await run('stats', { tensor: { name, shape: [weights], theta, init: 0 }, slice }, signal)
    await writer.append(await run('dense', { tensor: { name, shape, theta, init: 0 }, slice, dtype }, signal))
  }
  await writer.end()
  return common
}
