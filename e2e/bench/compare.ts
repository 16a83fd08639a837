import type { BenchCase, BenchReport } from './results.ts'
import { figure } from './table.ts'

/** Differences below this are noise however small the spreads are. */
const LEAST_CHANGE = 0.03

export type Verdict = 'better' | 'worse' | 'within noise'

/**
 * Whether one run of a case is better than another: the change has to be larger than both spreads together.
 * @returns the verdict on `b`, and b over a
 */
export function compareCase(a: BenchCase, b: BenchCase): { verdict: Verdict; change: number } {
  if (a.median === b.median) return { verdict: 'within noise', change: 1 }
  const change = b.median / a.median
  const noise = Math.max(LEAST_CHANGE, a.spread + b.spread)
  const size = Math.max(change, 1 / change) - 1
  const isCount = a.unit === 'bytes' || a.unit === 'count'
  if (!isCount && !(size > noise)) return { verdict: 'within noise', change }
  const isMore = b.median > a.median
  return { verdict: isMore === (a.unit === 'tokens/s') ? 'better' : 'worse', change }
}

/**
 * What has changed from one run to another, as a text.
 * @throws {Error} for runs on a GPU and on a software adapter
 */
export function compareReports(a: BenchReport, b: BenchReport): string {
  const kind = ({ adapter }: BenchReport) => (adapter.software ? 'a software adapter' : 'a GPU')
  if (a.adapter.software !== b.adapter.software)
    throw new Error(`Cannot compare a run on ${kind(a)} with one on ${kind(b)}`)
  const lines: string[] = []
  const name = ({ adapter, machine }: BenchReport) =>
    [adapter.vendor, adapter.description, machine.cpu].join(' ')
  if (name(a) !== name(b)) lines.push(`Not the same machine: ${name(a)}; ${name(b)}`)
  const rows = a.cases.flatMap((before) => {
    const after = b.cases.find((found) => found.name === before.name && found.unit === before.unit)
    return after === undefined ? [] : [{ before, after, ...compareCase(before, after) }]
  })
  const width = Math.max(0, ...rows.map(({ before }) => before.name.length))
  for (const { before, after, verdict, change } of rows) {
    const factor = Number.isFinite(change) ? `× ${Number(change.toPrecision(3))}` : ''
    const doubt = before.unreliable || after.unreliable ? ' (unreliable)' : ''
    lines.push(
      `${verdict.padEnd(13)}${before.name.padEnd(width)}  ${figure(before)} → ${figure(after)}  ${factor}${doubt}`,
    )
  }
  const names = (report: BenchReport) => new Set(report.cases.map((found) => found.name))
  for (const [one, other, which] of [
    [a, b, 'first'],
    [b, a, 'second'],
  ] as const) {
    const alone = [...names(one)].filter((found) => !names(other).has(found))
    if (alone.length > 0) lines.push(`only in the ${which}: ${alone.join('; ')}`)
  }
  const count = (verdict: Verdict) => rows.filter((row) => row.verdict === verdict).length
  lines.push(`${count('better')} better, ${count('worse')} worse, ${count('within noise')} within noise`)
  return lines.join('\n')
}
