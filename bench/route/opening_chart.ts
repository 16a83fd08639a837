/** The chart of `opening.ts`: bars of seconds on a scale of powers of ten, legible on light and dark pages. */

/** What one way takes until the first token, in ms. */
export interface Bar {
  name: string
  network: number
  computing: number
}

const WIDTH = 740
const LEFT = 230
const RIGHT = 90
const ROW = 34
const TOP = 56

/** @returns an SVG document */
export function openingChart(title: string, bars: readonly Bar[]): string {
  const totals = bars.map(({ network, computing }) => (network + computing) / 1000)
  const low = Math.floor(Math.log10(Math.min(...totals)))
  const high = Math.ceil(Math.log10(Math.max(...totals)))
  const x = (s: number) =>
    LEFT + ((WIDTH - LEFT - RIGHT) * (Math.log10(Math.max(s, 10 ** low)) - low)) / (high - low)
  const height = TOP + ROW * bars.length + 34
  const ticks = Array.from({ length: high - low + 1 }, (_, i) => 10 ** (low + i))
  const rows = bars.map(({ name, computing }, at) => {
    const y = TOP + ROW * at
    const [middle, end] = [x(computing / 1000), x(totals[at]!)]
    return `<text x="${LEFT - 10}" y="${y + 17}" text-anchor="end">${escaped(name)}</text>
<rect class="computing" x="${LEFT}" y="${y + 4}" width="${(middle - LEFT).toFixed(1)}" height="18"/>
<rect class="network" x="${middle.toFixed(1)}" y="${y + 4}" width="${(end - middle).toFixed(1)}" height="18"/>
<text x="${(end + 8).toFixed(1)}" y="${y + 17}" class="figure">${totals[at]!.toPrecision(totals[at]! < 10 ? 2 : 3)} s</text>`
  })
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="system-ui, sans-serif" font-size="13" role="img">
<title>${escaped(title)}</title>
<style>
text { fill: #1f2328 } .paper { fill: #fbfaf7 } .line { stroke: #dedbd2 } .tick { fill: #5b6068 }
.computing { fill: #8b8f96 } .network { fill: #1d4ed8 } .figure { font-weight: 600 }
@media (prefers-color-scheme: dark) {
text { fill: #e8e6e1 } .paper { fill: #14161a } .line { stroke: #2f333a } .tick { fill: #a4abb5 }
.computing { fill: #7d838c } .network { fill: #8ab4ff }
}
</style>
<rect class="paper" width="${WIDTH}" height="${height}" rx="8"/>
<text x="20" y="26" font-weight="600">${escaped(title)}</text>
<rect class="computing" x="${WIDTH - 230}" y="16" width="12" height="12"/><text x="${WIDTH - 212}" y="26" class="tick">computing</text>
<rect class="network" x="${WIDTH - 130}" y="16" width="12" height="12"/><text x="${WIDTH - 112}" y="26" class="tick">network</text>
${ticks
  .map(
    (s) =>
      `<line class="line" x1="${x(s).toFixed(1)}" x2="${x(s).toFixed(1)}" y1="${TOP - 8}" y2="${height - 30}"/><text class="tick" x="${x(s).toFixed(1)}" y="${height - 12}" text-anchor="middle">${s} s</text>`,
  )
  .join('\n')}
${rows.join('\n')}
</svg>
`
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
}
