/**
 * `adapter_config.json` as `peft` 0.21 writes it: what is supported, and what is refused because it would mean
 * something that LoRA or (IA)³ tensors alone do not say.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { MAX_INVOCATION } from '../format/limits.ts'
import { kindOf } from './kinds/index.ts'
import type { AdapterKind, Config } from './kinds/kind.ts'
import { PathPatterns, wholePathMatcher } from './path_patterns.ts'
import {
  isCacheMethod,
  isPromptMethod,
  refuseBottleneck,
  refused,
  refuseOtherMethods,
} from './peft_methods.ts'

interface CommonSettings {
  fanInFanOut: boolean
  baseName?: string
  /** Modules that were trained whole, by the ends of their paths. */
  modulesToSave: string[]
}

export interface LoraSettings extends CommonSettings {
  kind: 'lora'
  rank: number
  alpha: number
  rankPattern: PathPatterns
  alphaPattern: PathPatterns
  rslora: boolean
  dora: boolean
  /** How factors were begun from the base's weight, which they are taken out of. */
  startedFrom?: 'pissa' | 'olora'
  /** As written, for what is trained beside the factors. */
  config: Config
  /** Of activated LoRA: the tokens that it acts from. */
  invocation?: number[]
  /** Modules that the model ties share what trains them. */
  tied: boolean
}

export interface Ia3Settings extends CommonSettings {
  kind: 'ia3'
  /** Whether a module's input is scaled instead of its output. */
  isFeedforward: (path: string) => boolean
}

/** Of a kind whose change is formed from its tensors. */
export interface FormedSettings extends CommonSettings {
  kind: 'formed'
  own: AdapterKind
  config: Config
  rankPattern: PathPatterns
  alphaPattern: PathPatterns
}

/** Of what stands before a prompt. */
export interface PromptSettings extends CommonSettings {
  kind: 'prompt'
  /** Virtual tokens, as the configuration says. */
  tokens: number
  /** They are keys and values of this many layers and heads, not rows of an embedding. */
  caches?: { layers: number; heads: number }
}

export type AdapterSettings = LoraSettings | Ia3Settings | FormedSettings | PromptSettings

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
  'alora_invocation_tokens',
  'alpha_pattern',
  'corda_config',
  'ensure_weight_tying',
  'eva_config',
  'fan_in_fan_out',
  'init_lora_weights',
  'layers_pattern',
  'layers_to_transform',
  'loftq_config',
  'lora_alpha',
  'lora_bias',
  'lora_dropout',
  'lora_ga_config',
  'megatron_core',
  'qalora_group_size',
  'r',
  'rank_pattern',
  'runtime_config',
  'trainable_token_indices',
  'use_dora',
  'use_rslora',
]

/** Fields of other kinds that say which modules are meant, as their tensors do. */
const HARMLESS_FORMED = [...HARMLESS, 'layers_pattern', 'layers_to_transform']

const HARMLESS_IA3 = [...HARMLESS, 'fan_in_fan_out', 'feedforward_modules', 'init_ia3_weights']

/** Of virtual tokens: how they were begun and trained. What made them of something else is folded into what is saved. */
const HARMLESS_PROMPT = [
  ...HARMLESS,
  'cpt_mask',
  'cpt_prompt_init',
  'cpt_token_ids',
  'cpt_tokens_type_mask',
  'encoder_dropout',
  'encoder_hidden_size',
  'encoder_num_layers',
  'encoder_reparameterization_type',
  'init_weights',
  'num_attention_heads',
  'num_frozen_tokens',
  'num_layers',
  'num_transformer_submodules',
  'num_virtual_tokens',
  'opt_loss_decay_factor',
  'opt_projection_epsilon',
  'opt_projection_format_epsilon',
  'opt_weighted_loss_type',
  'prefix_projection',
  'prompt_tuning_init',
  'prompt_tuning_init_text',
  'random_seed',
  'token_dim',
  'tokenizer_kwargs',
  'tokenizer_name_or_path',
]

/** Names of what a field turns on, for messages. */
const FIELD_NAMES: Record<string, string> = {
  use_qalora: 'QA-LoRA',
  use_bdlora: 'BD-LoRA',
  arrow_config: 'Arrow routing',
  monteclora_config: 'MonteCLoRA',
  kasa_config: 'KaSA',
  velora_config: 'VeLoRA',
  layer_replication: 'layer replication',
  target_parameters: 'LoRA on parameters (target_parameters)',
}

/** These decide token by token, so no fixed weights are equal to them. */
const UNMERGEABLE = ['arrow_config']

/** Initializations that leave the base weights as they are. The others subtract something from them at load. */
const PLAIN_INITS = [true, false, 'gaussian', 'eva', 'orthogonal', 'mica']
/** What they subtract follows from the base's weight alone. */
const STARTS = ['pissa', 'olora'] as const

/**
 * @throws {TritswapError} `unsupported` for every method and setting that the tensors of plain LoRA or (IA)³ do not
 * express, naming it and the way out
 */
export async function readAdapterConfig(
  config: Record<string, unknown>,
  name: string,
): Promise<AdapterSettings> {
  refuseBottleneck(config, name)
  const type = typeof config.peft_type === 'string' ? config.peft_type.toUpperCase() : undefined
  if (type === undefined) {
    throw new TritswapError(
      'input',
      `Cannot read ${name}: expected a peft_type such as LORA in it, found none`,
    )
  }
  const own = kindOf(type)
  if (own === undefined) refuseOtherMethods(type, name)
  const harmless =
    own !== undefined
      ? [...HARMLESS_FORMED, ...own.fields]
      : isPromptMethod(type)
        ? HARMLESS_PROMPT
        : { LORA: HARMLESS_LORA, IA3: HARMLESS_IA3 }[type as 'LORA']
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
  const common = {
    baseName: baseName || undefined,
    fanInFanOut: config.fan_in_fan_out === true,
    modulesToSave: isTexts(config.modules_to_save) ? config.modules_to_save : [],
  }
  if (own !== undefined) {
    const why = own.refusal?.(config)
    if (why !== undefined) throw refused(name, own.label, why)
    // AdaLoRA keeps lists of the ranks that are left under this name.
    const rankPattern = own.label === 'AdaLoRA' ? {} : config.rank_pattern
    return {
      kind: 'formed',
      own,
      config,
      rankPattern: await patterns(rankPattern, name, 'rank_pattern'),
      alphaPattern: await patterns(config.alpha_pattern, name, 'alpha_pattern'),
      ...common,
    }
  }
  if (isPromptMethod(type)) {
    const task = config.task_type ?? 'CAUSAL_LM'
    const parts = config.num_transformer_submodules ?? 1
    if (task !== 'CAUSAL_LM' || parts !== 1) {
      throw refused(
        name,
        `virtual tokens of ${task}`,
        'only those before the prompt of a causal language model can be read on their own',
      )
    }
    return {
      kind: 'prompt',
      tokens: positive(config.num_virtual_tokens, name, 'num_virtual_tokens'),
      caches: isCacheMethod(type)
        ? {
            layers: positive(config.num_layers, name, 'num_layers'),
            heads: positive(config.num_attention_heads, name, 'num_attention_heads'),
          }
        : undefined,
      ...common,
    }
  }
  if (type === 'IA3') {
    return {
      kind: 'ia3',
      isFeedforward: await feedforwardMatcher(config.feedforward_modules ?? [], name),
      ...common,
    }
  }
  const init = config.init_lora_weights ?? true
  const startedFrom = STARTS.find((start) => start === String(init).toLowerCase())
  if (startedFrom === undefined && !PLAIN_INITS.includes(init as string)) throw movedBase(name, init)
  return {
    kind: 'lora',
    rank: positive(config.r, name, 'r'),
    alpha: positive(config.lora_alpha, name, 'lora_alpha'),
    rankPattern: await patterns(config.rank_pattern, name, 'rank_pattern'),
    alphaPattern: await patterns(config.alpha_pattern, name, 'alpha_pattern'),
    rslora: config.use_rslora === true,
    dora: config.use_dora === true,
    startedFrom,
    config,
    invocation: invocationOf(config.alora_invocation_tokens, name),
    tied: config.ensure_weight_tying === true,
    ...common,
  }
}

/** The error for factors that were taken out of the base in a way that the base alone does not tell. */
function movedBase(name: string, init: unknown): TritswapError {
  const method = `LoRA initialized by ${JSON.stringify(init)?.slice(0, 60)}`
  return new TritswapError(
    'unsupported',
    `Cannot compress ${name}: ${method} takes its first factors out of the base, and they cannot be formed again from the base alone; save it as a plain LoRA (peft: model.save_pretrained(out, path_initial_model_for_weight_conversion=<the adapter as it was before training>)) and compress that, or merge it (model.merge_and_unload()) and use --base <base> --finetuned merged`,
    { fields: { name, method } },
  )
}

/** Null, false, 0, an empty text, list or object: a setting that is off. */
function isEmpty(value: unknown): boolean {
  return !value || (typeof value === 'object' && Object.keys(value).length === 0)
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string')
}

/** @throws {TritswapError} `input` for anything but a list of tokens */
function invocationOf(value: unknown, name: string): number[] | undefined {
  if (isEmpty(value)) return undefined
  const isToken = (id: unknown) => Number.isInteger(id) && (id as number) >= 0
  if (Array.isArray(value) && value.length <= MAX_INVOCATION && value.every(isToken)) return value
  throw bad(name, 'alora_invocation_tokens', value)
}

function positive(value: unknown, name: string, field: string): number {
  if (typeof value !== 'number' || !(value > 0) || !Number.isFinite(value)) throw bad(name, field, value)
  return value
}

async function patterns(value: unknown, name: string, field: string): Promise<PathPatterns> {
  if (!isEmpty(value) && (typeof value !== 'object' || Array.isArray(value))) throw bad(name, field, value)
  const entries = Object.entries((value || {}) as object)
  return PathPatterns.compile(
    entries.map(([key, number]) => [key, positive(number, name, `${field}.${key}`)] as const),
    { name, field },
  )
}

/** A whole-path match for a regular expression, a suffix match for a list. */
async function feedforwardMatcher(modules: unknown, name: string): Promise<(path: string) => boolean> {
  const field = 'feedforward_modules'
  if (typeof modules === 'string') return wholePathMatcher(modules, { name, field })
  if (!isTexts(modules)) throw bad(name, field, modules)
  return (path) => modules.some((suffix) => path.endsWith(suffix))
}

function bad(name: string, field: string, found: unknown): TritswapError {
  return new TritswapError(
    'input',
    `Cannot read ${name}: ${field} in its adapter_config.json is ${JSON.stringify(found)?.slice(0, 60) ?? 'missing'}`,
    { fields: { name, field } },
  )
}
