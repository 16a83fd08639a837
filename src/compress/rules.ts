/**
 * How a task vector is compressed: the options, and the rule that they make for each tensor.
 *
 * @module
 */
import picomatch from 'picomatch'
import { TritswapError } from '../errors.ts'
import { factorOf, virtualTensorOf } from '../format/contributions.ts'
import type { FloatDtype } from '../format/dtype.ts'
import { MAX_TERMS } from '../format/limits.ts'
import type { TritMethod } from '../format/table.ts'
import type { TensorRole } from '../format/tensor.ts'
import {
  DEFAULT_DENSITY,
  DEFAULT_EXPERT_CODEC,
  defaultTerms,
  type ExpertCodec,
  TERMS_TRIED,
} from './defaults.ts'
import { isVector } from './moments.ts'

/** How entries are ranked (`jobs.ts`). */
export type Score = 'magnitude' | 'balanced'
/** Whether the best entries are chosen tensor by tensor or among all tensors at once. */
export type Threshold = 'global' | 'tensor'
/**
 * What a kept entry is worth before alpha: the standard deviation of tau (as published), the mean magnitude of the
 * kept entries, or ‖tau‖² / Σ_kept |tau| (`unbiased`: the expert's dot product with tau is tau's own square).
 * Over the tensors that share a threshold.
 */
export type Scale = 'std' | 'mean' | 'unbiased'

/** What a glob may override for the tensors it matches. */
export interface Override {
  glob: string
  density?: number
  alpha?: number
  score?: Score
  scale?: Scale
}

export interface RuleOptions {
  /**
   * `terms`: LoRA pairs become ternary rank-1 terms, as do the matrices of a full fine-tuning; `ternary`: the factors and matrices
   * themselves become ternary. By default `terms` for LoRA, unless an option says how ternary entries are chosen.
   */
  codec?: ExpertCodec
  /** Terms of each target. By default 2 of LoRA, 16 of a full fine-tuning. */
  terms?: number
  /** Each changed weight as steps from the base's: the result is the fine-tuned checkpoint, bit for bit. Nothing is chosen. */
  lossless?: boolean
  /** Bytes of the whole file instead: terms are chosen over all targets. */
  bytes?: number
  /** `published`: score magnitude, threshold global, scale std, every tensor ternary. Single options override it. */
  rule?: 'published'
  /** Fraction of entries to keep, 0 < k ≤ 1. By default 0.05 of a full fine-tuning, 0.2 of LoRA, 0.5 of (IA)³. */
  density?: number
  /** Multiplies any scale. Default 1. */
  alpha?: number
  score?: Score
  threshold?: Threshold
  scale?: Scale
  /** Globs of tensor names; only these. */
  include?: readonly string[]
  /** Not these. */
  exclude?: readonly string[]
  /** Stored uncompressed, as f16 or f32 deltas. */
  dense?: readonly string[]
  denseDtype?: FloatDtype
  /** Later ones win. */
  overrides?: readonly Override[]
}

export interface TernaryRule {
  codec: 'ternary'
  density: number
  alpha: number
  score: Score
  threshold: Threshold
  scale: Scale
}

export interface DenseRule {
  codec: 'dense'
  dtype: FloatDtype
}

/** For the factors of LoRA, and for matrices. */
export interface TermsRule {
  codec: 'terms'
  /** At most; where the size of the file decides, it takes as many of them as have room. */
  terms: number
}

export type TensorRule = TernaryRule | DenseRule | TermsRule

export function isTermsRule(rule: TensorRule): rule is TermsRule {
  return 'terms' in rule
}

export function isTernaryRule(rule: TensorRule): rule is TernaryRule {
  return 'density' in rule
}

/** The rule of tensors that no glob names. */
export function mainRule(options: RuleOptions, method: TritMethod): TernaryRule {
  const published = options.rule === 'published'
  const rule: TernaryRule = {
    codec: 'ternary',
    density: options.density ?? DEFAULT_DENSITY[method],
    alpha: options.alpha ?? 1,
    score: options.score ?? (published ? 'magnitude' : 'balanced'),
    threshold: options.threshold ?? (published ? 'global' : 'tensor'),
    scale: options.scale ?? (published ? 'std' : 'unbiased'),
  }
  checkRule(rule, 'the options')
  return rule
}

/**
 * The codec that options ask for or imply.
 * @throws {TritswapError} `input` for options of both codecs, for terms of what is no LoRA, and for numbers out of range
 */
function codecFor(options: RuleOptions, method: TritMethod): ExpertCodec {
  const { codec, terms, bytes } = options
  const ternary = (['rule', 'density', 'alpha', 'score', 'threshold', 'scale', 'overrides'] as const).find(
    (option) => options[option] !== undefined && options[option] !== 1 && !isEmptyList(options[option]),
  )
  const ofTerms = terms === undefined ? (bytes === undefined ? undefined : 'bytes') : 'terms'
  const chosen = codec ?? (ofTerms !== undefined ? 'terms' : ternary !== undefined ? 'ternary' : undefined)
  if (chosen === undefined) return DEFAULT_EXPERT_CODEC[method]
  if (chosen === 'ternary' && ofTerms !== undefined)
    throw new TritswapError('input', `Cannot compress: ${ofTerms} is an option of the codec terms only`)
  if (chosen === 'terms' && (method === 'ia3' || method === 'prompt'))
    throw new TritswapError(
      'input',
      `Cannot compress to terms: expected a LoRA adapter or a full fine-tuning, found ${method === 'ia3' ? '(IA)³, which is vectors' : 'virtual tokens, which change no weight'}; leave out the options of terms`,
    )
  if (terms !== undefined && bytes !== undefined)
    throw new TritswapError('input', 'Cannot compress: expected terms or bytes, found both')
  if (terms !== undefined && !(Number.isInteger(terms) && terms >= 1 && terms <= MAX_TERMS))
    throw new TritswapError('input', `Cannot compress: expected 1 to ${MAX_TERMS} terms, found ${terms}`)
  if (bytes !== undefined && !(bytes > 0 && Number.isFinite(bytes)))
    throw new TritswapError('input', `Cannot compress: expected a size over 0 bytes, found ${bytes}`)
  return chosen
}

/** @throws {TritswapError} `input` for options that choose what is lost beside `lossless` */
export function checkLossless(options: RuleOptions): void {
  const choosing = (
    [
      'codec',
      'terms',
      'bytes',
      'rule',
      'density',
      'alpha',
      'score',
      'threshold',
      'scale',
      'dense',
      'denseDtype',
      'overrides',
    ] as const
  ).find((option) => options[option] !== undefined && !isEmptyList(options[option]))
  if (choosing === undefined) return
  throw new TritswapError(
    'input',
    `Cannot compress without loss: ${choosing} chooses what is left out; give one of the two`,
    { fields: { option: choosing } },
  )
}

function isEmptyList(value: unknown): boolean {
  return Array.isArray(value) && value.length === 0
}

function checkRule({ density, alpha }: TernaryRule, where: string): void {
  if (!(density > 0 && density <= 1)) {
    throw new TritswapError(
      'input',
      `Cannot compress: expected a density over 0 and up to 1 in ${where}, found ${density}`,
    )
  }
  if (!(alpha > 0 && Number.isFinite(alpha))) {
    throw new TritswapError('input', `Cannot compress: expected an alpha over 0 in ${where}, found ${alpha}`)
  }
}

/** Matches tensor names: `*` crosses dots and slashes. */
function globMatcher(glob: string): (name: string) => boolean {
  return picomatch(glob, { bash: true, dot: true, nonegate: true })
}

/** What globs match: the name in the file, and the checkpoint's. */
interface Named {
  name: string
  target: string
  knownAs?: string
  role: TensorRole
  isLengthened?: boolean
  shape: readonly number[]
}

/**
 * Decides for every tensor. Names are matched as they are in the file, and by the base tensor they change.
 * @param copies - names of tensors that are copies of others: a glob for one of them is no mistake
 * @returns undefined for a tensor that is left out
 * @throws {TritswapError} `input` when a glob matches no tensor at all
 */
export function rulesFor(
  tensors: readonly Named[],
  options: RuleOptions,
  method: TritMethod,
  copies: readonly string[] = [],
): (TensorRule | undefined)[] {
  const main = mainRule(options, method)
  const isTerms = codecFor(options, method) === 'terms'
  const terms: TermsRule = {
    codec: 'terms',
    terms:
      options.bytes === undefined ? (options.terms ?? defaultTerms(tensors, method)) : TERMS_TRIED[method],
  }
  // Beside factors a delta is a module that an adapter saved whole.
  const { codec: asked } = options
  const ofMatrices =
    (method === 'full' || asked === 'terms') && tensors.every((tensor) => factorOf(tensor) === undefined)
  const becomesTerms = (tensor: Named) =>
    isTerms && (factorOf(tensor) !== undefined || (ofMatrices && !isVector(tensor.shape)))
  const matching = (globs: readonly string[] | undefined, option: string) => {
    const matchers = (globs ?? []).map((glob) => matcher(tensors, copies, glob, option))
    return (tensor: Named) => matchers.some((matches) => matches(tensor))
  }
  const asksTernary = asked === 'ternary' || options.density !== undefined
  const isVirtual = (tensor: Named) => virtualTensorOf([tensor]) !== undefined
  const included = options.include?.length ? matching(options.include, '--include') : () => true
  const excluded = matching(options.exclude, '--exclude')
  const dense = matching(options.dense, '--dense')
  const overrides = (options.overrides ?? []).map(({ glob, ...override }) => ({
    matches: matcher(tensors, copies, glob, '--override'),
    override,
  }))
  return tensors.map((tensor) => {
    if (!included(tensor) || excluded(tensor)) return undefined
    if (dense(tensor) || (isVirtual(tensor) && !asksTernary))
      return { codec: 'dense', dtype: options.denseDtype ?? 'f16' }
    if (becomesTerms(tensor)) return terms
    const rule = { ...main }
    if (tensor.isLengthened && options.scale === undefined && options.rule === undefined) rule.scale = 'mean'
    for (const { matches, override } of overrides) if (matches(tensor)) Object.assign(rule, override)
    checkRule(rule, `the rule of ${tensor.name}`)
    return rule
  })
}

function matcher(tensors: readonly Named[], copies: readonly string[], glob: string, option: string) {
  const matches = globMatcher(glob)
  const found = ({ name, target, knownAs = target }: Named) => matches(name) || matches(knownAs)
  if (!tensors.some(found) && !copies.some(matches)) {
    throw new TritswapError(
      'input',
      `Cannot use ${option} ${glob}: it matches no tensor; names look like ${tensors[0]?.name ?? '(there are none)'}`,
      { fields: { option, glob } },
    )
  }
  return found
}
