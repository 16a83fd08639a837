/**
 * Checkpoints that are not what compression works on: adapters, and weights that were quantized.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { parseAdapterName } from './adapter_names.ts'
import type { Checkpoint } from './checkpoint.ts'
import { isKindsTensor } from './kinds/index.ts'

/** @throws {TritswapError} `input` for the tensors of an adapter */
export function refuseAdapter({ name, tensors }: Checkpoint): void {
  const isAdapters = (tensor: string) => parseAdapterName(tensor).part !== 'whole' || isKindsTensor(tensor)
  const factor = [...tensors.keys()].find(isAdapters)
  if (factor === undefined) return
  throw new TritswapError(
    'input',
    `Cannot compress ${name} as a fine-tuning: it holds ${factor}, so it is an adapter; give its folder, with adapter_config.json in it, as the adapter (--adapter <folder>)`,
    { fields: { name, tensor: factor } },
  )
}

/** Tensors that tell how a checkpoint is quantized. */
const SCHEMES: [RegExp, string][] = [
  [/\.quant_state\.bitsandbytes__|\.absmax$/, 'bitsandbytes 4-bit'],
  [/\.SCB$/, 'bitsandbytes 8-bit'],
  [/\.(qweight|g_idx|qzeros)$/, 'GPTQ or AWQ'],
]

/** How a checkpoint is quantized, or undefined. */
export function quantizationOf({ tensors }: Pick<Checkpoint, 'tensors'>): string | undefined {
  for (const { name, dtype } of tensors.values()) {
    if (dtype.startsWith('F8_')) return 'FP8'
    const scheme = SCHEMES.find(([pattern]) => pattern.test(name))
    if (scheme !== undefined) return scheme[1]
  }
  return undefined
}

/** The error for a tensor that a quantized checkpoint has no plain weights of. */
export function quantizedCheckpoint(tensor: string, checkpoint: string, scheme: string): TritswapError {
  return new TritswapError(
    'unsupported',
    `Cannot compress ${tensor}: ${checkpoint} is quantized (${scheme}), and differences need plain weights; give the checkpoint in F32, F16 or BF16 that it was made from`,
    { fields: { tensor, name: checkpoint, scheme } },
  )
}
