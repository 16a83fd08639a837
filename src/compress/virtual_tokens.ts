/**
 * What stands before a prompt: `peft` saves the rows that the model reads, or the keys and values that each layer keeps of them,
 * those of an encoder (p-tuning, projected prefixes) as it puts them out.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { MAX_VIRTUAL_TOKENS } from '../format/limits.ts'
import type { AdapterContext, AdapterTensor } from './adapter_context.ts'
import { formedTensor } from './formed_tensor.ts'
import type { PromptSettings } from './peft_config.ts'
import { readFloats, type StoredTensor } from './safetensors.ts'
import type { TaskTensor } from './task_vector.ts'

/** @throws {TritswapError} `input` for other rows than the configuration says, `unsupported` for more than a file holds */
export function virtualTensors(
  { stored, path }: AdapterTensor,
  { settings: { tokens, caches } }: AdapterContext<PromptSettings>,
): TaskTensor[] {
  const { name, shape } = stored
  const parts = caches === undefined ? 1 : 2 * caches.layers * caches.heads
  if (shape.length !== 2 || shape[0] !== tokens || shape[1] % parts !== 0) {
    const width =
      caches === undefined ? 'width' : `${caches.layers} layers × 2 × ${caches.heads} heads × size`
    throw new TritswapError(
      'input',
      `Cannot compress ${name}: expected [${tokens}, ${width}] as adapter_config.json says, found [${shape}]`,
      { fields: { tensor: name, shape, tokens } },
    )
  }
  if (tokens > MAX_VIRTUAL_TOKENS) {
    throw new TritswapError(
      'unsupported',
      `Cannot compress ${name}: expected at most ${MAX_VIRTUAL_TOKENS} virtual tokens, found ${tokens}`,
      { fields: { tensor: name, tokens } },
    )
  }
  if (caches === undefined) return [{ name, shape, role: 'virtual', target: path, theta: stored, init: 0 }]
  return cacheTensors(stored, caches)
}

/** Keys and values by layer: a row has those of all layers one after another, and within each those of its heads. */
function cacheTensors(
  stored: StoredTensor,
  { layers, heads }: NonNullable<PromptSettings['caches']>,
): TaskTensor[] {
  const [tokens, width] = stored.shape
  const size = width / (2 * layers * heads)
  return Array.from({ length: 2 * layers }, (_, i): TaskTensor => {
    const name = `past_key_values.${i >> 1}.${i % 2 === 0 ? 'key' : 'value'}`
    const shape = [heads, tokens, size]
    const form = async () => {
      const values = new Float32Array(heads * tokens * size)
      for (let token = 0; token < tokens; token++) {
        const row = await readFloats(stored, token * width + i * heads * size, heads * size)
        for (let head = 0; head < heads; head++)
          values.set(row.subarray(head * size, (head + 1) * size), (head * tokens + token) * size)
      }
      return values
    }
    const theta = formedTensor(name, shape, stored.source.name, form)
    return { name, shape, role: 'virtual', target: name, theta, init: 0 }
  })
}
