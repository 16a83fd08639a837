/**
 * How well a model answers chats, and how close it is to others, as `eval --chats` and `sweep --chats` report it.
 *
 * @module
 */
import {
  closenessTo,
  type Estimate,
  type ExampleScore,
  exactDifference,
  exactMatch,
  ratio,
} from './scores.ts'

/** Beside another model, over the tokens of the answers. */
export interface Comparison {
  /** Fraction of tokens where both rank the same one first. */
  agreement: Estimate
  /** KL(other ‖ model), bits per token. */
  kl: Estimate
  /** Exact match of the model minus that of the other, chat by chat. */
  exact: Estimate
}

export interface AnswerFigures {
  /** Fraction of greedy answers that are the wanted ones to the token. */
  exact: Estimate
  /** Fraction of the wanted tokens that the model ranks first, given those before them. */
  firstChoices: Estimate
  /** Information content of the wanted answers. */
  bitsPerToken: Estimate
  /** Beside the base, by the answers of the base. */
  toBase?: Comparison
  /** Beside the uncompressed expert. */
  toUncompressed?: Comparison
}

/** Scores of a model on the chats, and where the scores of others name it: its position in `beside`. */
export function answerFigures(
  scores: readonly ExampleScore[],
  others: Partial<Record<'toBase' | 'toUncompressed', { at: number; scores: readonly ExampleScore[] }>>,
): AnswerFigures {
  const { toBase, toUncompressed } = others
  const tokens = (score: ExampleScore) => score.tokens
  const beside = (other: typeof toBase): Comparison | undefined =>
    other && { ...closenessTo(scores, other.at), exact: exactDifference(scores, other.scores) }
  return {
    exact: exactMatch(scores),
    firstChoices: ratio(scores, (score) => score.firstChoices, tokens),
    bitsPerToken: ratio(scores, (score) => score.bits, tokens),
    toBase: beside(toBase),
    toUncompressed: beside(toUncompressed),
  }
}

/** Columns of {@link answerCells}. */
export const ANSWER_COLUMNS = ['exact', 'to uncompressed', 'tokens', 'bits', 'agreement', 'KL', 'KL to base']

/** Figures with their standard errors, as cells of a table; empty where there is nothing to compare with. */
export function answerCells({ exact, firstChoices, bitsPerToken, ...rest }: AnswerFigures): string[] {
  const { toBase, toUncompressed } = rest
  return [
    percent(exact),
    toUncompressed === undefined ? '' : percent(toUncompressed.exact),
    percent(firstChoices),
    number(bitsPerToken),
    toUncompressed === undefined ? '' : percent(toUncompressed.agreement),
    toUncompressed === undefined ? '' : number(toUncompressed.kl),
    toBase === undefined ? '' : number(toBase.kl),
  ]
}

function percent({ value, se }: Estimate): string {
  return `${(100 * value).toFixed(1)}±${(100 * se).toFixed(1)}%`
}

function number({ value, se }: Estimate): string {
  return `${value.toFixed(3)}±${se.toFixed(3)}`
}
