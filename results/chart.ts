/**
 * Charts as SVG: points with their standard errors, lines between those of one series. Readable on light and on dark
 * pages, and in black and white: series differ in mark as well as in colour.
 *
 * @module
 */

export interface Point {
  x: number
  y: number
  /** Standard error of y. */
  se?: number
  label?: string
}

export interface Series {
  name: string
  points: readonly Point[]
  /** Points are joined in their order. */
  isLine?: boolean
}

export interface Axis {
  title: string
  ticks: readonly number[]
  format?: (value: number) => string
  isLog?: boolean
}

export interface Chart {
  title: string
  x: Axis
  y: Axis
  series: readonly Series[]
}

const [WIDTH, HEIGHT] = [720, 400]
const AREA = { left: 64, right: 168, top: 40, bottom: 52 }

const STYLE = `
.c0{--c:#1f6feb}.c1{--c:#c2410c}.c2{--c:#15803d}.c3{--c:#9333ea}.c4{--c:#a16207}.c5{--c:#be185d}.c6{--c:#0e7490}.c7{--c:#57534e}
svg{font:12px system-ui,sans-serif;fill:#1c1917;background:#fff}
.grid{stroke:#d6d3d1}.axis{stroke:#78716c}.mark{fill:var(--c);stroke:var(--c)}.line{fill:none;stroke:var(--c);stroke-width:1.5}
.title{font-size:14px;font-weight:600}
@media(prefers-color-scheme:dark){
svg{fill:#e7e5e4;background:#1c1917}.grid{stroke:#44403c}.axis{stroke:#a8a29e}
.c0{--c:#79b8ff}.c1{--c:#fb923c}.c2{--c:#4ade80}.c3{--c:#d8b4fe}.c4{--c:#facc15}.c5{--c:#f9a8d4}.c6{--c:#67e8f9}.c7{--c:#d6d3d1}}
`

/** The chart as the text of an SVG file. */
export function drawn({ title, x, y, series }: Chart): string {
  const toX = scale(x, AREA.left, WIDTH - AREA.right)
  const toY = scale(y, HEIGHT - AREA.bottom, AREA.top)
  const parts = [
    `<text class="title" x="${AREA.left}" y="22">${escaped(title)}</text>`,
    ...y.ticks.flatMap((value) => [
      `<line class="grid" x1="${AREA.left}" x2="${WIDTH - AREA.right}" y1="${toY(value)}" y2="${toY(value)}"/>`,
      `<text x="${AREA.left - 8}" y="${toY(value) + 4}" text-anchor="end">${said(y, value)}</text>`,
    ]),
    ...x.ticks.flatMap((value) => [
      `<line class="axis" x1="${toX(value)}" x2="${toX(value)}" y1="${HEIGHT - AREA.bottom}" y2="${HEIGHT - AREA.bottom + 5}"/>`,
      `<text x="${toX(value)}" y="${HEIGHT - AREA.bottom + 18}" text-anchor="middle">${said(x, value)}</text>`,
    ]),
    `<line class="axis" x1="${AREA.left}" x2="${WIDTH - AREA.right}" y1="${HEIGHT - AREA.bottom}" y2="${HEIGHT - AREA.bottom}"/>`,
    `<text x="${(AREA.left + WIDTH - AREA.right) / 2}" y="${HEIGHT - 12}" text-anchor="middle">${escaped(x.title)}</text>`,
    `<text transform="translate(16 ${(HEIGHT - AREA.bottom + AREA.top) / 2}) rotate(-90)" text-anchor="middle">${escaped(y.title)}</text>`,
    ...series.map((one, i) => drawnSeries(one, i, toX, toY)),
  ]
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escaped(title)}"><style>${STYLE}</style>\n${parts.join('\n')}\n</svg>\n`
}

function drawnSeries(
  { name, points, isLine }: Series,
  index: number,
  toX: (value: number) => number,
  toY: (value: number) => number,
): string {
  const [left, top] = [WIDTH - AREA.right + 16, AREA.top + 4 + index * 20]
  const parts = [mark(index, left, top), `<text x="${left + 12}" y="${top + 4}">${escaped(name)}</text>`]
  if (isLine && points.length > 1)
    parts.push(
      `<polyline class="line" points="${points.map(({ x, y }) => `${toX(x)},${toY(y)}`).join(' ')}"/>`,
    )
  for (const { x, y, se = 0, label } of points) {
    if (se > 0)
      parts.push(`<line class="line" x1="${toX(x)}" x2="${toX(x)}" y1="${toY(y - se)}" y2="${toY(y + se)}"/>`)
    parts.push(mark(index, toX(x), toY(y)))
    if (label !== undefined)
      parts.push(`<text x="${toX(x) + 7}" y="${toY(y) - 6}" font-size="10">${escaped(label)}</text>`)
  }
  return `<g class="c${index % 8}">${parts.join('')}</g>`
}

function mark(index: number, x: number, y: number): string {
  if (index % 4 === 0) return `<circle class="mark" cx="${x}" cy="${y}" r="3.5"/>`
  if (index % 4 === 1) return `<rect class="mark" x="${x - 3.5}" y="${y - 3.5}" width="7" height="7"/>`
  if (index % 4 === 2) return `<path class="mark" d="M${x} ${y - 4.5}l4.5 8h-9z"/>`
  return `<path class="mark" d="M${x} ${y - 5}l5 5l-5 5l-5-5z"/>`
}

function scale({ ticks, isLog }: Axis, from: number, to: number): (value: number) => number {
  const at = (value: number) => (isLog ? Math.log(value) : value)
  const [least, most] = [at(ticks[0]), at(ticks.at(-1)!)]
  return (value) => {
    const share = Math.min(1, Math.max(0, (at(value) - least) / (most - least)))
    return Number((from + share * (to - from)).toFixed(1))
  }
}

function said({ format = String }: Axis, value: number): string {
  return escaped(format(value))
}

function escaped(text: string): string {
  return text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`)
}

/** 1,500 as 1.5 kB. */
export function sized(bytes: number): string {
  const unit = bytes < 1e3 ? '' : bytes < 1e6 ? 'k' : 'M'
  const value = bytes / (unit === '' ? 1 : unit === 'k' ? 1e3 : 1e6)
  return `${Number(value.toPrecision(value < 10 ? 2 : 3))} ${unit}B`
}
