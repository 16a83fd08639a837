/** The report's charts. Everything else in it is text already. */
import uPlot from 'uplot'
import type { BenchReport, Scaling } from '../results.ts'

const WIDTH = 330
const HEIGHT = 260

const report = JSON.parse(document.getElementById('data')?.textContent ?? '{}') as BenchReport

/** A colour of the page in the scheme of the moment: a canvas does not know `light-dark()`. */
function colour(name: string): string {
  const probe = document.body.appendChild(document.createElement('span'))
  probe.style.color = `var(${name})`
  const { color } = getComputedStyle(probe)
  probe.remove()
  return color
}

interface Line {
  label: string
  ys: (number | null)[]
  /** Points that were measured, or a line that was fitted. */
  drawn: 'points' | 'line' | 'both'
}

function draw(
  id: string,
  xs: number[],
  lines: Line[],
  { x, y, log = false, base = 10 }: { x: string; y: string; log?: boolean; base?: 2 | 10 },
): void {
  const box = document.getElementById(id)
  if (box === null) return
  box.replaceChildren()
  const axis = (label: string) => ({
    label,
    stroke: colour('--muted'),
    grid: { stroke: colour('--hairline'), width: 1 },
    ticks: { stroke: colour('--hairline'), width: 1 },
    values: (_: uPlot, splits: number[]) => splits.map((value) => (value === null ? '' : short(value))),
  })
  const scale = log ? { distr: 3 as const, log: base } : {}
  new uPlot(
    {
      width: WIDTH,
      height: HEIGHT,
      // The figures are in the tables.
      legend: { live: false },
      scales: { x: { time: false, ...scale }, y: log ? { distr: 3, log: 10 } : { range: fromZero } },
      axes: [axis(x), axis(y)],
      series: [
        { label: x, value: (_, value) => (value === null ? '' : short(value)) },
        ...lines.map(({ label, drawn }, i) => ({
          label,
          stroke: colour(`--ink-${i + 1}`),
          width: drawn === 'points' ? 0 : 1.5,
          ...(drawn === 'line' ? { dash: [6, 4] } : {}),
          points: {
            show: drawn !== 'line',
            size: 8,
            fill: colour(`--ink-${i + 1}`),
          },
          value: (_: uPlot, value: number | null) => (value === null ? '' : short(value)),
        })),
      ],
    },
    [xs, ...lines.map(({ ys }) => ys)],
    box,
  )
}

const fromZero = (_: uPlot, __: number, max: number): [number, number] => [0, max * 1.1]

function short(value: number): string {
  return Number(value.toPrecision(3)).toLocaleString('en')
}

function drawScaling(id: string, { points, fit }: Scaling, unit: number, x: string): void {
  const xs = points.map((point) => point.x / unit)
  const lines: Line[] = [{ label: 'median, ms', ys: points.map(({ ms }) => ms), drawn: 'points' }]
  if (fit !== null)
    lines.push({
      label: `line, R² ${fit.r2.toFixed(4)}`,
      ys: points.map((point) => fit.intercept + fit.slope * point.x),
      drawn: 'line',
    })
  draw(id, xs, lines, { x, y: 'ms' })
}

function drawAll(): void {
  const { scaling, transfer } = report
  drawScaling('by-weights', scaling.weights, 2 ** 20, 'weights, M')
  drawScaling('by-density', scaling.density, 0.01, 'density, %')
  draw(
    'by-residents',
    scaling.residents.points.map(({ x }) => x),
    [{ label: 'median, ms', ys: scaling.residents.points.map(({ ms }) => ms), drawn: 'both' }],
    { x: 'resident experts', y: 'ms' },
  )
  const rates = Object.keys(transfer.rows[0]?.total ?? {}).map(Number)
  draw(
    'by-rate',
    rates,
    transfer.rows.map(({ kind, total }) => ({
      label: kind,
      ys: rates.map((rate) => total[rate]),
      drawn: 'both',
    })),
    { x: 'Mbit/s', y: 'ms until usable', log: true },
  )
}

drawAll()
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', drawAll)
