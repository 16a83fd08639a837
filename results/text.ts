/**
 * Figures as they stand in the document.
 *
 * @module
 */
import type { Estimate } from '../src/cli/scores.ts'
import type { Store } from './store.ts'

/** A share with its standard error, in percent. */
export function percent({ value, se }: Estimate): string {
  return `${(100 * value).toFixed(1)} ± ${(100 * se).toFixed(1)}`
}

export function number({ value, se }: Estimate): string {
  return `${value.toFixed(3)} ± ${se.toFixed(3)}`
}

/** Gain kept, agreement and KL of one row; empty where it was not measured. */
export function threeOf(kept: Store, key: string, first: 'gain' | 'exact' = 'gain'): string {
  const row = kept.get(key)
  if (row === undefined) return 'not run'
  const kl = row.kl === undefined ? '' : ` / ${number(kept.estimate(key, 'kl'))}`
  const agreement = row.agreement === undefined ? '' : ` / ${percent(kept.estimate(key, 'agreement'))}`
  return `${percent(kept.estimate(key, first))}${agreement}${kl}`
}

/** A table of Markdown. */
export function markdown(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')
}

/** The mean of independent estimates. */
export function meanOf(estimates: readonly Estimate[]): Estimate {
  const n = estimates.length
  return {
    value: estimates.reduce((sum, { value }) => sum + value, 0) / n,
    se: Math.sqrt(estimates.reduce((sum, { se }) => sum + se * se, 0)) / n,
  }
}

/** Mean and its standard error over draws. */
export function overDraws(values: readonly number[]): Estimate {
  const n = values.length
  const value = values.reduce((sum, one) => sum + one, 0) / n
  const spread = values.reduce((sum, one) => sum + (one - value) ** 2, 0) / Math.max(1, n - 1)
  return { value, se: Math.sqrt(spread / n) }
}

/** Whether all rows were measured. */
export function hasAll(kept: Store, keys: readonly string[]): boolean {
  return keys.every((key) => kept.get(key) !== undefined)
}

/** Instead of a claim that its rows do not bear yet. */
export const NOT_YET = 'Not all rows are measured yet: nothing is claimed.'
