/**
 * The methods of `peft`, and why those that are not plain LoRA or (IA)³ are refused.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'

/** What people call the methods of `peft_type`; others are named as they are. */
const METHOD_NAMES: Record<string, string> = {
  ADALORA: 'AdaLoRA',
  LOHA: 'LoHa',
  LOKR: 'LoKr',
  VERA: 'VeRA',
  BOFT: 'BOFT',
  OFT: 'OFT',
  LN_TUNING: 'LN tuning',
  RANDLORA: 'RandLoRA',
  FOURIERFT: 'FourierFT',
  XLORA: 'X-LoRA',
  VBLORA: 'VB-LoRA',
  TRAINABLE_TOKENS: 'trainable tokens',
  PROMPT_TUNING: 'prompt tuning',
  MULTITASK_PROMPT_TUNING: 'multitask prompt tuning',
  P_TUNING: 'p-tuning',
  PREFIX_TUNING: 'prefix tuning',
  ADAPTION_PROMPT: 'adaption prompt',
  CPT: 'CPT (context-aware prompt tuning)',
  CARTRIDGE: 'cartridges',
}

/** Methods that add inputs to the model and change no weight, so there is nothing to merge. */
const PROMPT_METHODS = [
  'PROMPT_TUNING',
  'MULTITASK_PROMPT_TUNING',
  'P_TUNING',
  'PREFIX_TUNING',
  'ADAPTION_PROMPT',
  'CPT',
  'CARTRIDGE',
]

/** Parts of methods that the configuration should have named already. */
const FOREIGN_TENSORS: [RegExp, string][] = [
  [/\.lora_magnitude_vector(\.|$)/, 'DoRA'],
  [/\.lora_E(\.|$)/, 'AdaLoRA'],
  [/\.lora_B(\.[^.]+)?\.bias$/, 'LoRA with a bias in B'],
  [/\.hada_[wt]\d(_[ab])?(\.|$)/, 'LoHa'],
  [/\.lokr_/, 'LoKr'],
  [/\.vera_lambda_/, 'VeRA'],
  [/(^|\.)prompt_embeddings$/, 'prompt tuning'],
  [/\.(lora_|token_adapter\.)/, 'an unknown kind of LoRA'],
]

/** @throws {TritswapError} `unsupported` for all but LoRA and (IA)³ */
export function refuseOtherMethods(type: string, name: string): asserts type is 'LORA' | 'IA3' {
  if (PROMPT_METHODS.includes(type)) {
    throw new TritswapError(
      'unsupported',
      `Cannot compress ${name}: ${METHOD_NAMES[type]} adds inputs instead of changing weights, so it has no task vector and cannot be merged; train LoRA, (IA)³ or a full fine-tuning for this`,
      { fields: { name, method: type } },
    )
  }
  if (type !== 'LORA' && type !== 'IA3') throw refused(name, METHOD_NAMES[type] ?? type, `peft_type ${type}`)
}

/** @throws {TritswapError} `unsupported` for a tensor of another method */
export function refuseForeignTensor(tensor: string, name: string): void {
  for (const [pattern, method] of FOREIGN_TENSORS) {
    if (pattern.test(tensor)) throw refused(name, method, `it holds ${tensor}`)
  }
}

/** The error for an adapter that has to be merged first. */
export function refused(name: string, method: string, why: string): TritswapError {
  return new TritswapError(
    'unsupported',
    `Cannot compress ${name}: ${method} is not supported (${why}); merge it into its base (peft: model.merge_and_unload().save_pretrained("merged")) and use --base <base> --finetuned merged`,
    { fields: { name, method } },
  )
}
