import { TritswapError } from '../errors.ts'
import type { StoredTensor } from './safetensors.ts'

/** The error for a tensor without values: what DeepSpeed's ZeRO-3 leaves of weights that lay on several GPUs. */
export function placeholder(
  { name, shape, source }: StoredTensor,
  what: 'compress' | 'prepare' = 'compress',
): TritswapError {
  return new TritswapError(
    'input',
    `Cannot ${what} ${name}: ${source.name} has it with shape [${shape}] and no values, as DeepSpeed ZeRO-3 (or FSDP) saves weights that were not gathered; gather them before saving (stage3_gather_16bit_weights_on_model_save, or deepspeed.zero.GatheredParameters around save_pretrained), or make the file again with zero_to_fp32.py from the training checkpoint`,
    { fields: { tensor: name, shape } },
  )
}
