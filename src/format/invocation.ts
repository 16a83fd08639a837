/**
 * Activated LoRA: an expert that acts from the last occurrence of some tokens in the prompt on, so that keys and values before
 * them are the base's. The rule is peft's (`calculate_alora_offsets`).
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
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

/** @throws {TritswapError} `unsupported` for an expert that does not act on every token alike */
export function checkActsEverywhere({ invocation }: TritTable, name: string, what: string): void {
  if (invocation === undefined) return
  throw new TritswapError(
    'unsupported',
    `Cannot ${what} ${name}: it is an activated LoRA, which acts from its invocation on and not before, so no fixed weights are equal to it; use it with ExpertLoader, or with tritswap check and eval`,
    { fields: { name, invocation: [...invocation] } },
  )
}
