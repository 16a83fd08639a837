/**
 * `adapter_config.json` as `peft` 0.21 writes it: what is supported, and what is refused because it would mean
 * something that LoRA or (IA)³ tensors alone do not say.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'

export interface LoraSettings {
  kind: 'lora'
  rank: number
  alpha: number
  rankPattern: [string, number][]
  alphaPattern: [string, number][]
  rslora: boolean
  fanInFanOut: boolean
  baseName?: string
}

export interface Ia3Settings {
  kind: 'ia3'
  /** A regular expression for whole paths, or suffixes of paths. */
  feedforward: string | string[]
  fanInFanOut: boolean
  baseName?: string
}

export type AdapterSettings = LoraSettings | Ia3Settings

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

/** Fields that say how an adapter was made or found, not what it computes. */
const HARMLESS = [
  'auto_mapping',
  'base_model_name_or_path',
  'bias',
  'exclude_modules',
  'inference_mode',
  'modules_to_save',
  'peft_type',
  'peft_version',
  'revision',
  'target_modules',
  'task_type',
]

/** The same for LoRA; the tensors in the file say which modules and layers are meant. */
const HARMLESS_LORA = [
  ...HARMLESS,
  'alpha_pattern',
  'corda_config',
  'eva_config',
  'fan_in_fan_out',
  'init_lora_weights',
  'layers_pattern',
  'layers_to_transform',
  'loftq_config',
  'lora_alpha',
  'lora_dropout',
  'lora_ga_config',
  'megatron_core',
  'qalora_group_size',
  'r',
  'rank_pattern',
  'runtime_config',
  'use_rslora',
]

const HARMLESS_IA3 = [...HARMLESS, 'fan_in_fan_out', 'feedforward_modules', 'init_ia3_weights']

/** Names of what a field turns on, for messages. */
const FIELD_NAMES: Record<string, string> = {
  use_dora: 'DoRA',
  use_qalora: 'QA-LoRA',
  use_bdlora: 'BD-LoRA',
  alora_invocation_tokens: 'aLoRA (activated LoRA)',
  arrow_config: 'Arrow routing',
  monteclora_config: 'MonteCLoRA',
  kasa_config: 'KaSA',
  velora_config: 'VeLoRA',
  layer_replication: 'layer replication',
  lora_bias: 'LoRA with a bias in B',
  target_parameters: 'LoRA on parameters (target_parameters)',
  trainable_token_indices: 'trainable tokens',
}

/** These decide token by token, so no fixed weights are equal to them. */
const UNMERGEABLE = ['alora_invocation_tokens', 'arrow_config']

/** Initializations that leave the base weights as they are. The others subtract something from them at load. */
const PLAIN_INITS = [true, false, 'gaussian', 'eva', 'orthogonal']

/**
 * @throws {TritswapError} `unsupported` for every method and setting that the tensors of plain LoRA or (IA)³ do not
 * express, naming it and the way out
 */
export function readAdapterConfig(config: Record<string, unknown>, name: string): AdapterSettings {
  const type = typeof config.peft_type === 'string' ? config.peft_type.toUpperCase() : undefined
  if (type === undefined) {
    throw new TritswapError(
      'input',
      `Cannot read ${name}: expected a peft_type such as LORA in it, found none`,
    )
  }
  if (PROMPT_METHODS.includes(type)) {
    throw new TritswapError(
      'unsupported',
      `Cannot compress ${name}: ${METHOD_NAMES[type]} adds inputs instead of changing weights, so it has no task vector and cannot be merged; train LoRA, (IA)³ or a full fine-tuning for this`,
      { fields: { name, method: type } },
    )
  }
  if (type !== 'LORA' && type !== 'IA3') throw refused(name, METHOD_NAMES[type] ?? type, `peft_type ${type}`)
  const harmless = type === 'LORA' ? HARMLESS_LORA : HARMLESS_IA3
  for (const [field, value] of Object.entries(config)) {
    if (harmless.includes(field) || isEmpty(value)) continue
    if (UNMERGEABLE.includes(field)) {
      throw new TritswapError(
        'unsupported',
        `Cannot compress ${name}: ${FIELD_NAMES[field]} decides token by token what it changes, so it cannot be merged either; train plain LoRA for this`,
        { fields: { name, method: FIELD_NAMES[field] } },
      )
    }
    throw refused(name, FIELD_NAMES[field] ?? field, `${field} is ${JSON.stringify(value).slice(0, 60)}`)
  }
  const baseName =
    typeof config.base_model_name_or_path === 'string' ? config.base_model_name_or_path : undefined
  const common = { baseName: baseName || undefined, fanInFanOut: config.fan_in_fan_out === true }
  if (type === 'IA3') {
    const modules = config.feedforward_modules ?? []
    if (typeof modules !== 'string' && !isTexts(modules)) throw bad(name, 'feedforward_modules', modules)
    return { kind: 'ia3', feedforward: modules, ...common }
  }
  const init = config.init_lora_weights ?? true
  if (!PLAIN_INITS.includes(init as string)) {
    throw refused(
      name,
      `LoRA initialized by ${JSON.stringify(init)}`,
      `init_lora_weights is ${JSON.stringify(init)}, which changes the base as well`,
    )
  }
  return {
    kind: 'lora',
    rank: positive(config.r, name, 'r'),
    alpha: positive(config.lora_alpha, name, 'lora_alpha'),
    rankPattern: pattern(config.rank_pattern, name, 'rank_pattern'),
    alphaPattern: pattern(config.alpha_pattern, name, 'alpha_pattern'),
    rslora: config.use_rslora === true,
    ...common,
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

/** What `peft` matches patterns with: the key, as a regular expression, must match the end of the path after a dot. */
export function matchPattern<T>(patterns: readonly (readonly [string, T])[], path: string, fallback: T): T {
  for (const [key, value] of patterns) {
    if (pathRegex(key).test(path)) return value
  }
  return fallback
}

function pathRegex(key: string): RegExp {
  return compile(`^(.*\\.)?(${key})$`, key)
}

/** A whole-path match for a regular expression, a suffix match for a list. */
export function isFeedforward({ feedforward }: Ia3Settings, path: string): boolean {
  if (typeof feedforward === 'string') return compile(`^(?:${feedforward})$`, feedforward).test(path)
  return feedforward.some((suffix) => path.endsWith(suffix))
}

function compile(source: string, key: string): RegExp {
  try {
    return new RegExp(source)
  } catch (cause) {
    throw new TritswapError(
      'unsupported',
      `Cannot use the pattern ${key}: it is no regular expression that JavaScript knows`,
      { cause },
    )
  }
}

/** Null, false, 0, an empty text, list or object: a setting that is off. */
function isEmpty(value: unknown): boolean {
  return !value || (typeof value === 'object' && Object.keys(value).length === 0)
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string')
}

function positive(value: unknown, name: string, field: string): number {
  if (typeof value !== 'number' || !(value > 0) || !Number.isFinite(value)) throw bad(name, field, value)
  return value
}

function pattern(value: unknown, name: string, field: string): [string, number][] {
  if (isEmpty(value)) return []
  if (typeof value !== 'object' || Array.isArray(value)) throw bad(name, field, value)
  return Object.entries(value as object).map(([key, number]) => [
    key,
    positive(number, name, `${field}.${key}`),
  ])
}

function bad(name: string, field: string, found: unknown): TritswapError {
  return new TritswapError(
    'input',
    `Cannot read ${name}: ${field} is ${JSON.stringify(found)?.slice(0, 60) ?? 'missing'}`,
    {
      fields: { name, field },
    },
  )
}
