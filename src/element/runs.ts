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
  return partsOf(pens).join(' + ')
}

/** The names of pens that write together, each with its share of the whole. */
export function partsOf(pens: readonly WeightedPen[]): string[] {
  if (pens.length < 2) return pens.map(({ pen }) => pen.label)
  const whole = pens.reduce((sum, { weight }) => sum + Math.abs(weight), 0)
  return pens.map(({ pen, weight }) => `${pen.label} ${Math.round((100 * Math.abs(weight)) / whole)} %`)
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
