import { factorOf } from '../format/contributions.ts'
import type { TritMethod } from '../format/table.ts'
import type { TensorRole } from '../format/tensor.ts'
import { weightsOf } from '../format/tiling.ts'

/** How an expert's main tensors are stored. */
export type ExpertCodec = 'ternary' | 'terms'

/**
 * Fraction of entries to keep unless one is given, for the command line, the page and its worker. A full fine-tuning
 * keeps its gain at 5 %; LoRA factors have less to spare and lose what they learned below about 20 %, (IA)³ vectors
 * below half. Virtual tokens are kept in floats unless ternary is asked for: they are few.
 */
export const DEFAULT_DENSITY: Readonly<Record<TritMethod, number>> = {
  full: 0.05,
  lora: 0.2,
  ia3: 0.5,
  prompt: 0.5,
}

/**
 * The codec unless an option says or implies one. Terms keep what a LoRA learned at a third of the bytes of its factors: the
 * product of two ternary factors multiplies their errors.
 */
export const DEFAULT_EXPERT_CODEC: Readonly<Record<TritMethod, ExpertCodec>> = {
  full: 'ternary',
  lora: 'terms',
  ia3: 'ternary',
  prompt: 'ternary',
}

/**
 * Terms of each target, at least, unless a number or a size is given. A full fine-tuning has no low rank: its directions are
 * many.
 */
export const DEFAULT_TERMS: Readonly<Record<TritMethod, number>> = { full: 16, lora: 2, ia3: 1, prompt: 1 }

/** Terms of a target that a size can buy, at most. */
export const TERMS_TRIED: Readonly<Record<TritMethod, number>> = { full: 32, lora: 8, ia3: 1, prompt: 1 }

/** Ranks of a LoRA for which it gets one term … */
const RANKS_A_TERM = 2
/** … as long as all of them together take no more bytes than this. */
const TERMS_BYTES = 128_000
/** An estimate that needs no terms: a section has a few more. */
const ENTRIES_A_BYTE = 5
const SCALE_BYTES = 4

/**
 * Terms of each target unless a number or a size is given: two of a LoRA that adapts all that it can, more where few
 * modules are adapted, for then each of them carries more of what was learned.
 */
export function defaultTerms(
  tensors: readonly { role: TensorRole; shape: readonly number[] }[],
  method: TritMethod,
): number {
  const least = DEFAULT_TERMS[method]
  const factors = tensors.flatMap(({ role, shape }) => {
    const factor = factorOf({ role })
    return factor === undefined ? [] : [{ shape, rank: factor === 'a' ? shape[0] : shape[1] }]
  })
  if (method !== 'lora' || factors.length === 0) return least
  const rank = Math.max(...factors.map((factor) => factor.rank))
  const bytesOfOne = factors.reduce(
    (sum, factor) => sum + weightsOf(factor.shape) / factor.rank / ENTRIES_A_BYTE + SCALE_BYTES / 2,
    0,
  )
  const room = Math.floor(TERMS_BYTES / bytesOfOne)
  return Math.max(least, Math.min(Math.ceil(rank / RANKS_A_TERM), room))
}
