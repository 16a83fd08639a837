/**
 * Who reads the tokens of a prompt: of a set of experts, an activated one only those from its invocation on. A pass ends where
 * another one begins to act, so that each lies beside, or is merged into, the weights of its own passes alone.
 *
 * @module
 */
import { actsFrom } from '../format/invocation.ts'
import type { ResidentExpert } from '../gpu/index.ts'
import { actingPart, type ExpertSet } from '../model/expert_set.ts'

/** Whether keys and values of a set are only right where each token was read by those that should read it. */
export function isActivated({ experts }: ExpertSet): boolean {
  return experts.some(({ expert }) => expert.table.invocation !== undefined)
}

export class Reading {
  #prompt: readonly number[] = []
  #starts = new WeakMap<ResidentExpert, number>()
  #position = 0

  /** @param prompt - in which invocations are looked for; what is generated behind it invokes nobody */
  begin(prompt: readonly number[]): void {
    this.#prompt = prompt
    this.#starts = new WeakMap()
    this.#position = 0
  }

  /** Whether an expert acts in the next pass. */
  readonly acts = (expert: ResidentExpert): boolean => this.#startOf(expert) <= this.#position

  /** The next pass reads tokens from here on. */
  readonly readFrom = (position: number): void => {
    this.#position = position
  }

  /** Positions inside of the prompt from which on more experts of a set act, ascending. */
  stops({ experts }: ExpertSet): number[] {
    const starts = experts.map(({ expert }) => this.#startOf(expert))
    const inside = starts.filter((start) => start > 0 && start < this.#prompt.length)
    return [...new Set(inside)].sort((a, b) => a - b)
  }

  /** Those experts of a set that act on the token at a position. */
  partAt(set: ExpertSet, position: number): ExpertSet {
    return actingPart(set, (expert) => this.#startOf(expert) <= position)
  }

  #startOf(expert: ResidentExpert): number {
    const start = this.#starts.get(expert) ?? actsFrom(this.#prompt, expert.table.invocation)
    this.#starts.set(expert, start)
    return start
  }
}
