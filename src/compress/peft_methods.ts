/**
 * The methods of `peft` that are refused, and why.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'

/** What people call the methods of `peft_type`; others are named as they are. */
const METHOD_NAMES: Record<string, string> = {
  ADAMSS: 'AdaMSS',
  ADAPTION_PROMPT: 'adaption prompt',
  DEFT: 'DEFT',
  FROD: 'FRoD',
  GLORA: 'GLoRA',
  LILY: 'Lily',
  MULTITASK_PROMPT_TUNING: 'multitask prompt tuning',
  OSF: 'OSF',
  PEANUT: 'PEANuT',
  POLY: 'Poly',
  PSOFT: 'PSOFT',
  SHADOW: 'ShadowPEFT',
  SUPERTUNING: 'Supertuning',
  TINYLORA: 'TinyLoRA',
  UNILORA: 'Uni-LoRA',
  XLORA: 'X-LoRA',
}

/** Methods that decide from what goes through the model, so that no fixed weights are equal to them. */
const ROUTED: Record<string, string> = {
  ADAPTION_PROMPT: 'its gates weigh prompts against the text inside of attention',
  LILY: 'a router weighs its factors by what comes in',
  POLY: 'it chooses among skills by the task that a call names',
  SHADOW: 'a second network runs beside the model',
  XLORA: 'a router weighs its adapters by what comes in',
}

/** Methods that save rows to be read before a prompt, and those that save what each layer keeps of such tokens. */
const ROW_METHODS = ['PROMPT_TUNING', 'P_TUNING', 'CPT'] as const
const CACHE_METHODS = ['PREFIX_TUNING', 'CARTRIDGE'] as const
type PromptMethod = (typeof ROW_METHODS)[number] | (typeof CACHE_METHODS)[number]

/** Parts of methods that the configuration should have named already. */
const FOREIGN_TENSORS: [RegExp, string][] = [
  [/\.lora_E(\.|$)/, 'AdaLoRA'],
  [/\.hada_[wt]\d(_[ab])?(\.|$)/, 'LoHa'],
  [/\.lokr_/, 'LoKr'],
  [/\.vera_lambda_/, 'VeRA'],
  [/(^|\.)prompt_embeddings$/, 'prompt tuning'],
  [/\.(lora_|token_adapter\.)/, 'an unknown kind of LoRA'],
]

/** Whether a `peft_type` puts tokens before a prompt, as one tensor that says all of them. */
export function isPromptMethod(type: string): type is PromptMethod {
  return [...ROW_METHODS, ...CACHE_METHODS].some((method) => method === type)
}

/** Whether these are keys and values. */
export function isCacheMethod(type: PromptMethod): boolean {
  return CACHE_METHODS.some((method) => method === type)
}

/** @throws {TritswapError} `unsupported` for what is neither LoRA nor (IA)³ nor virtual tokens */
export function refuseOtherMethods(
  type: string,
  name: string,
): asserts type is 'LORA' | 'IA3' | PromptMethod {
  if (isPromptMethod(type)) return
  if (type === 'MULTITASK_PROMPT_TUNING') {
    throw new TritswapError(
      'unsupported',
      `Cannot compress ${name}: ${METHOD_NAMES[type]} has other virtual tokens for each task that a call names; train prompt tuning for the task`,
      { fields: { name, method: type } },
    )
  }
  if (Object.hasOwn(ROUTED, type)) {
    const method = METHOD_NAMES[type]
    throw new TritswapError(
      'unsupported',
      `Cannot compress ${name}: ${method} cannot be merged, because ${ROUTED[type]}; train LoRA, (IA)³ or a full fine-tuning for this`,
      { fields: { name, method } },
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

/** @throws {TritswapError} `unsupported` for layers that the library adapters puts between those of the model */
export function refuseBottleneck(config: Record<string, unknown>, name: string): void {
  const inner = config.config
  const isBottleneck = typeof inner === 'object' && inner !== null && 'reduction_factor' in inner
  if (!isBottleneck) return
  throw new TritswapError(
    'unsupported',
    `Cannot compress ${name}: bottleneck adapters put layers with an activation between those of the model, so no weights of it are equal to them; train LoRA, (IA)³ or a full fine-tuning for this`,
    { fields: { name, method: 'bottleneck adapter' } },
  )
}

/** The error for an adapter that has to be merged first. */
export function refused(name: string, method: string, why: string): TritswapError {
  return new TritswapError(
    'unsupported',
    `Cannot compress ${name}: ${method} is not supported (${why}); merge it into its base (peft: model.merge_and_unload().save_pretrained("merged")) and use --base <base> --finetuned merged`,
    { fields: { name, method } },
  )
}
