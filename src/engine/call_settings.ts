import { TritswapError } from '../errors.ts'
import { wrongSetting } from '../source/generation_settings.ts'
import type { GenerateOptions } from './protocol.ts'
import type { Sampling } from './sampling.ts'

const DEFAULT_NEW_TOKENS = 128
/** What transformers takes where a base that samples does not say. */
const DEFAULT_TOP_K = 50

/** What is used of `generation_config.json`. */
export interface GenerationConfig {
  eos_token_id?: number | number[]
  do_sample?: boolean
  max_new_tokens?: number
  temperature?: number
  top_k?: number
  top_p?: number
  min_p?: number
  repetition_penalty?: number
}

/** Options of a call with the base's settings where it has none: greedy, unless its `generation_config.json` samples. */
export function settingsOf(
  options: GenerateOptions,
  base: GenerationConfig,
): Sampling & { maxNewTokens: number; repetitionPenalty: number } {
  const samples = base.do_sample === true
  return {
    maxNewTokens: options.maxNewTokens ?? base.max_new_tokens ?? DEFAULT_NEW_TOKENS,
    temperature: options.temperature ?? (samples ? (base.temperature ?? 1) : 0),
    topK: options.topK ?? base.top_k ?? (samples ? DEFAULT_TOP_K : 0),
    topP: options.topP ?? base.top_p ?? 1,
    minP: options.minP ?? base.min_p ?? 0,
    repetitionPenalty: options.repetitionPenalty ?? base.repetition_penalty ?? 1,
    seed: options.seed,
  }
}

/** @throws {TritswapError} `input` naming the option */
export function checkOptions(options: GenerateOptions): void {
  const { seed, truncate } = options
  const isSeed = seed === undefined || (Number.isSafeInteger(seed) && seed >= 0)
  const isEnd = truncate === undefined || truncate === 'start' || truncate === 'end'
  const wrong =
    wrongSetting({ ...options }) ??
    (isSeed ? undefined : { field: 'seed', expected: 'a whole number from 0 on', found: seed }) ??
    (isEnd ? undefined : { field: 'truncate', expected: 'start or end', found: truncate })
  if (wrong === undefined) return
  const { field, expected, found } = wrong
  throw new TritswapError('input', `Cannot generate with ${field} ${String(found)}: expected ${expected}`, {
    fields: { field, expected },
  })
}
