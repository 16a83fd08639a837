/**
 * The virtual tokens of prompt tuning and p-tuning: `peft` saves the rows that the model reads, those of p-tuning as its encoder
 * puts them out.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { MAX_VIRTUAL_TOKENS } from '../format/limits.ts'
import type { AdapterContext, AdapterTensor } from './adapter_context.ts'
import type { PromptSettings } from './peft_config.ts'
import type { TaskTensor } from './task_vector.ts'

/** @throws {TritswapError} `input` for other rows than the configuration says, `unsupported` for more than a file holds */
export function virtualTensor(
  { stored, path }: AdapterTensor,
  { settings: { tokens } }: AdapterContext<PromptSettings>,
): TaskTensor {
  const { name, shape } = stored
  if (shape.length !== 2 || shape[0] !== tokens) {
    throw new TritswapError(
      'input',
      `Cannot compress ${name}: expected [${tokens}, width] as adapter_config.json says, found [${shape}]`,
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
  return { name, shape, role: 'virtual', target: path, theta: stored, init: 0 }
}
