/** Figures as people read them, on a terminal and in Markdown. */
import type { Alternative, Bar, BenchCase, BenchReport } from './results.ts'

const sig = (value: number, digits = 3) => {
  if (value === 0) return '0'
  const rounded = Number(value.toPrecision(digits))
  return Math.abs(rounded) >= 100 ? String(Math.round(value)) : String(rounded)
}

export function milliseconds(ms: number): string {
  return ms >= 10_000 ? `${sig(ms / 1000)} s` : `${sig(ms)} ms`
}

export function byteCount(bytes: number): string {
  if (bytes >= 1e6) return `${sig(bytes / 1e6)} MB`
  return bytes >= 1e3 ? `${sig(bytes / 1e3)} kB` : `${bytes} B`
}

export function figure({ unit, median }: Pick<BenchCase, 'unit' | 'median'>): string {
  if (unit === 'ms') return milliseconds(median)
  if (unit === 'bytes') return byteCount(median)
  return unit === 'count' ? sig(median) : `${sig(median)} ${unit}`
}

function percent(share: number): string {
  return `${sig(100 * share, 2)} %`
}

function ratio(value: number | null): string {
  if (value === null) return 'not measured'
  return Math.abs(value) < 1 ? sig(value) : sig(value, 3)
}

export function adapterLine({ adapter }: Pick<BenchReport, 'adapter'>): string {
  const name = [adapter.vendor, adapter.architecture, adapter.description || adapter.device]
    .filter(Boolean)
    .join(' ')
  return adapter.software
    ? `${name}: a software adapter. Every figure below is of a CPU that plays GPU; only ratios mean something, and none says anything about a GPU.`
    : `${name}: a GPU. None of the figures below is of a software adapter.`
}

export function machineLine({ machine, versions }: Pick<BenchReport, 'machine' | 'versions'>): string {
  const { system, cpu, cores, memoryBytes, load } = machine
  const busy = load > cores / 2 ? ', BUSY: others were at work' : ''
  const names = Object.entries(versions).map(([name, version]) => `${name} ${version}`)
  return `${cpu}, ${cores} cores, ${sig(memoryBytes / 2 ** 30)} GiB, ${system}, load ${sig(load, 2)} before the run${busy}; ${names.join(', ')}`
}

export function barLine({ ratio: name, bar, is, says, met }: Bar, report: BenchReport): string[] {
  const verdict = met === null ? 'not measured' : met ? 'met' : 'missed'
  return [name, says, ratio(report.ratios[name]), `${is} ${sig(bar)}`, verdict]
}

export function alternativeCells(alternative: Alternative): string[] {
  const { name, wireBytes, coldMs, switchMs, vramBytes, vramPerMoreBytes, exact, tokensPerSecond } =
    alternative
  const or = (value: number | null, text: (value: number) => string) => (value === null ? '–' : text(value))
  return [
    name,
    or(wireBytes, byteCount),
    or(coldMs, milliseconds),
    or(switchMs, milliseconds),
    or(vramBytes, byteCount),
    or(vramPerMoreBytes, byteCount),
    vramBytes === null || vramPerMoreBytes === null ? '–' : byteCount(vramBytes + 9 * vramPerMoreBytes),
    exact === null ? '–' : exact ? 'yes' : 'no',
    or(tokensPerSecond, (value) => sig(value)),
  ]
}

export const ALTERNATIVE_HEAD = [
  '',
  'bytes',
  'cold',
  'switch',
  'VRAM with base',
  'one more',
  '10 at hand',
  'back exactly',
  'tokens/s',
]

export function transferCells(report: BenchReport): { head: string[]; rows: string[][] } {
  const { rows } = report.transfer
  const rates = Object.keys(rows[0]?.total ?? {})
  return {
    head: ['', 'bytes', 'host', 'to the GPU', 'apply', ...rates.map((rate) => `usable at ${rate} Mbit/s`)],
    rows: rows.map(({ kind, bytes, host, gpu, apply, total }) => [
      kind,
      byteCount(bytes),
      milliseconds(host),
      milliseconds(gpu),
      milliseconds(apply),
      ...rates.map((rate) => milliseconds(total[rate])),
    ]),
  }
}

/** The opening problem: what each way adds to the base's own first token stands behind it. */
export function openingCells({ opening: { rows } }: BenchReport): { head: string[]; rows: string[][] } {
  const base = rows.find(({ bytes }) => bytes === 0)?.ms
  return {
    head: ['', 'fetched', 'first token', 'more than the base'],
    rows: rows.map(({ way, bytes, ms }) => [
      way,
      byteCount(bytes),
      milliseconds(ms),
      base === undefined || bytes === 0 ? '–' : milliseconds(ms - base),
    ]),
  }
}

/** A table for a terminal. */
function columns(rows: readonly string[][]): string {
  const widths = rows[0].map((_, i) => Math.max(...rows.map((row) => row[i].length)))
  return rows
    .map((row) =>
      row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join('  '),
    )
    .join('\n')
}

export function caseCells(found: BenchCase): string[] {
  const spread = found.n === 1 ? '' : percent(found.spread)
  return [found.name, figure(found), spread, `n=${found.n}`, found.unreliable ? 'unreliable' : '']
}

export function summaryText(report: BenchReport): string {
  const { cases, bars, skipped, alternatives, transfer } = report
  const parts = [adapterLine(report), machineLine(report)]
  if (cases.length > 0) parts.push(columns([['case', 'median', 'spread', '', ''], ...cases.map(caseCells)]))
  if (alternatives.some(({ switchMs }) => switchMs !== null))
    parts.push(columns([ALTERNATIVE_HEAD, ...alternatives.map(alternativeCells)]))
  if (transfer.rows.length > 0) {
    const { head, rows } = transferCells(report)
    parts.push(columns([head, ...rows]))
  }
  if (report.opening.rows.length > 0) {
    const { head, rows } = openingCells(report)
    parts.push(columns([head, ...rows]))
  }
  parts.push(columns([['ratio', '', '', 'bar', ''], ...bars.map((bar) => barLine(bar, report))]))
  if (skipped.length > 0)
    parts.push(skipped.map(({ name, reason }) => `skipped ${name}: ${reason}`).join('\n'))
  return parts.join('\n\n')
}
