/**
 * Who reads the tokens of a prompt: of a set of experts, an activated one only those from its invocation on, and one with virtual
 * tokens those alone, which stand before the prompt. A pass ends where another one begins to act, so that each lies beside, or is
 * merged into, the weights of its own passes alone. Positions count the virtual tokens.
 *
 * @module
 */
import { actsEverywhere, actsOn, frontOf } from '../format/invocation.ts'
import type { ResidentExpert } from '../gpu/index.ts'
import { actingPart, type ExpertSet } from '../model/expert_set.ts'

/** Whether keys and values of a set are only right where each token was read by those that should read it. */
export function isActivated({ experts }: ExpertSet): boolean {
  return experts.some(({ expert }) => !actsEverywhere(expert.table))
}

/** How many virtual tokens a set has before a prompt. */
export function frontOfSet({ experts }: ExpertSet): number {
  return frontOf(experts.flatMap(({ expert, weight }) => (weight === 0 ? [] : [expert.table])))
}

export class Reading {
  #prompt: readonly number[] = []
  #spans = new WeakMap<ResidentExpert, ReturnType<typeof actsOn>>()
  #position = 0
  #front = 0

  /** Virtual tokens before the prompt. */
  get front(): number {
    return this.#front
  }

  /** @param prompt - in which invocations are looked for; what is generated after it cannot invoke an expert */
  begin(prompt: readonly number[], front = 0): void {
    this.#prompt = prompt
    this.#spans = new WeakMap()
    this.#position = 0
    this.#front = front
  }

  /** Counts positions with the virtual tokens of a set from now on. */
  place(set: ExpertSet): void {
    this.begin(this.#prompt, frontOfSet(set))
  }

  /** Whether an expert acts in the next pass. */
  readonly acts = (expert: ResidentExpert): boolean => this.#actsAt(expert, this.#position)

  /** The next pass reads tokens from here on. */
  readonly readFrom = (position: number): void => {
    this.#position = position
  }

  /** Positions inside of the prompt from which on other experts of a set act, ascending. */
  stops({ experts }: ExpertSet): number[] {
    const edges = experts.flatMap(({ expert }) => Object.values(this.#spanOf(expert)))
    const inside = edges.filter((edge) => edge > 0 && edge < this.#front + this.#prompt.length)
    return [...new Set(inside)].sort((a, b) => a - b)
  }

  /** Those experts of a set whose work the token at a position shows: virtual tokens are seen by all that follow them. */
  partAt(set: ExpertSet, position: number): ExpertSet {
    return actingPart(set, (expert) => {
      const { from, to } = this.#spanOf(expert)
      return from <= position && to > 0
    })
  }

  /** The same for the next pass. */
  partOf(set: ExpertSet): ExpertSet {
    return this.partAt(set, this.#position)
  }

  #actsAt(expert: ResidentExpert, position: number): boolean {
    const { from, to } = this.#spanOf(expert)
    return from <= position && position < to
  }

  #spanOf(expert: ResidentExpert): ReturnType<typeof actsOn> {
    const span = this.#spans.get(expert) ?? actsOn(this.#prompt, expert.table, this.#front)
    this.#spans.set(expert, span)
    return span
  }
}
