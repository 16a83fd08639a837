import type { WeightedPen } from './pens.ts'
import type { WrittenToken } from './token_writer.ts'

/** Tokens in a row that the same pens wrote. */
export interface Run {
  /** Index of the first of them. */
  start: number
  pens: readonly WeightedPen[]
  tokens: WrittenToken[]
}

export function runsOf(tokens: readonly WrittenToken[]): Run[] {
  const runs: Run[] = []
  tokens.forEach((token, index) => {
    const run = runs.at(-1)
    if (run !== undefined && sameHand(run.pens, token.pens)) run.tokens.push(token)
    else runs.push({ start: index, pens: token.pens, tokens: [token] })
  })
  return runs
}

export function labelsOf(pens: readonly WeightedPen[]): string {
  return pens.map(({ pen }) => pen.label).join(' + ')
}

export function textOf(tokens: readonly WrittenToken[]): string {
  return tokens.map(({ text }) => text).join('')
}

function sameHand(a: readonly WeightedPen[], b: readonly WeightedPen[]): boolean {
  return (
    a.length === b.length &&
    a.every(({ pen, weight }, index) => pen === b[index]!.pen && weight === b[index]!.weight)
  )
}
