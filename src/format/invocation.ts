/**
 * Experts that do not act on every token. Activated LoRA: an expert that acts from the last occurrence of some tokens in the prompt on, so that keys and values before
 * them are the base's. The rule is peft's (`calculate_alora_offsets`). Virtual tokens: an expert that acts on its own tokens before
 * the prompt alone, whose keys and values the prompt reads.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { virtualTokensOf } from './contributions.ts'
import type { TritTable } from './table.ts'

/**
 * The position from which an expert acts on a prompt: of the first token of the last occurrence of its invocation. Infinity
 * where there is none: it does not act at all then. 0 for an expert without an invocation.
 */
export function actsFrom(prompt: readonly number[], invocation: readonly number[] | undefined): number {
  if (invocation === undefined) return 0
  for (let at = prompt.length - invocation.length; at >= 0; at--)
    if (invocation.every((id, i) => prompt[at + i] === id)) return at
  return Number.POSITIVE_INFINITY
}

/** Ids of virtual tokens, which are rows of their own. */
export function virtualIds(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i)
}

/** Virtual tokens before a prompt that experts share, at most one of which has any. */
export function frontOf(tables: readonly Pick<TritTable, 'tensors'>[]): number {
  return Math.max(0, ...tables.map(({ tensors }) => virtualTokensOf(tensors)))
}

/** The positions of a prompt, after `front` virtual tokens, that an expert acts on: where they start, and where they end. */
export function actsOn(
  prompt: readonly number[],
  { invocation, tensors }: Pick<TritTable, 'invocation' | 'tensors'>,
  front: number,
): { from: number; to: number } {
  if (virtualTokensOf(tensors) > 0) return { from: 0, to: front }
  const from = actsFrom(prompt, invocation)
  return { from: from === 0 && invocation === undefined ? 0 : from + front, to: Number.POSITIVE_INFINITY }
}

/** Whether an expert acts on every token alike. */
export function actsEverywhere({ invocation, tensors }: Pick<TritTable, 'invocation' | 'tensors'>): boolean {
  return invocation === undefined && virtualTokensOf(tensors) === 0
}

/** @throws {TritswapError} `unsupported` for an expert that does not act on every token alike */
export function checkActsEverywhere(table: TritTable, name: string, what: string): void {
  const { invocation, tensors } = table
  const virtual = virtualTokensOf(tensors)
  if (virtual > 0)
    throw new TritswapError(
      'unsupported',
      `Cannot ${what} ${name}: it puts ${virtual} virtual tokens before a prompt and changes no weight; use it with ExpertLoader, or with tritswap check and eval`,
      { fields: { name, virtual } },
    )
  if (invocation === undefined) return
  throw new TritswapError(
    'unsupported',
    `Cannot ${what} ${name}: it is an activated LoRA, which acts from its invocation on and not before, so no fixed weights are equal to it; use it with ExpertLoader, or with tritswap check and eval`,
    { fields: { name, invocation: [...invocation] } },
  )
}
