import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { build, type Rolldown } from 'vite'
import type { BenchReport } from '../results.ts'
import {
  ALTERNATIVE_HEAD,
  adapterLine,
  alternativeCells,
  barLine,
  byteCount,
  caseCells,
  machineLine,
  openingCells,
  transferCells,
} from '../table.ts'

const require = createRequire(import.meta.url)
const here = (name: string) => fileURLToPath(new URL(name, import.meta.url))

/** The report as one HTML file that needs nothing else. */
export async function reportPage(report: BenchReport): Promise<string> {
  const { cases, bars, alternatives, scaling, transfer, sizes, notes, skipped, run, model, date } = report
  const groups = [...new Set(cases.map(({ group }) => group))]
  const { head, rows } = transferCells(report)
  const parts = [
    `<h1>tritswap benchmark</h1>`,
    `<p class="adapter">${escaped(adapterLine(report))}</p>`,
    `<p>${escaped(machineLine(report))}. ${escaped(date)}.</p>`,
    `<p>Base ${escaped(run.model)}: ${model.weights.toLocaleString('en')} weights in ${escaped(model.dtype)}, of which an expert changes ${model.patchedWeights.toLocaleString('en')}. ${run.runs} runs of each case, in turns, after one that does not count; slow cases take fewer, quick ones more. Medians; the spread is the interquartile range over the median.</p>`,
    `<h2>Ratios of this run, and their bars</h2>`,
    table(
      ['ratio', '', 'here', 'bar', ''],
      bars.map((bar) => barLine(bar, report)),
      'bars',
    ),
    `<h2>Against what one would use instead</h2>`,
    table(ALTERNATIVE_HEAD, alternatives.map(alternativeCells)),
    list(alternatives.flatMap(({ name, note }) => (note === undefined ? [] : [`${name}: ${note}`]))),
  ]
  if (rows.length > 0) {
    parts.push(
      `<h2>From the network to usable</h2>`,
      `<p>Network: ${escaped(transfer.networkIs)}.</p>`,
      table(head, rows),
      chart('by-rate', 'Until usable, by line rate'),
    )
  }
  if (report.opening.rows.length > 0) {
    const { head, rows } = openingCells(report)
    parts.push(
      `<h2>From a request to its first token</h2>`,
      `<p>The base is at hand, the expert nowhere cached. Line: ${escaped(report.opening.line)}.</p>`,
      table(head, rows),
    )
  }
  if (scaling.weights.points.length > 0) {
    parts.push(
      `<h2>What a switch costs as things grow</h2><div class="charts">`,
      chart('by-weights', 'Switch A → B at 5 %, by weights of the base'),
      chart('by-density', 'Base → A, by density'),
      chart('by-residents', 'On and off, by experts in VRAM'),
      `</div>`,
    )
  }
  parts.push(`<h2>All cases</h2>`)
  for (const group of groups) {
    parts.push(
      `<h3>${escaped(group)}</h3>`,
      table(
        ['case', 'median', 'spread', 'samples', ''],
        cases.filter((found) => found.group === group).map(caseCells),
      ),
    )
  }
  parts.push(
    `<h2>Sizes on the wire</h2>`,
    table(
      ['', 'bytes'],
      Object.entries(sizes).map(([name, bytes]) => [name, byteCount(bytes)]),
    ),
  )
  parts.push(
    `<h2>Notes</h2>`,
    list(
      Object.entries(notes).map(
        ([name, note]) => `${name}: ${note === true ? 'yes' : note === false ? 'no' : note}`,
      ),
    ),
  )
  if (skipped.length > 0)
    parts.push(
      `<h2>Skipped</h2>`,
      table(
        ['case', 'why'],
        skipped.map(({ name, reason }) => [name, reason]),
      ),
    )
  const uplotCss = readFileSync(require.resolve('uplot/dist/uPlot.min.css'), 'utf8')
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>tritswap benchmark</title>
<style>${uplotCss}${readFileSync(here('report.css'), 'utf8')}</style>
</head>
<body>
${parts.join('\n')}
<script type="application/json" id="data">${JSON.stringify(report).replaceAll('<', '\\u003c')}</script>
<script type="module">${(await clientCode()).replaceAll('</script', '<\\/script')}</script>
</body>
</html>
`
}

async function clientCode(): Promise<string> {
  const built = (await build({
    configFile: false,
    logLevel: 'error',
    publicDir: false,
    build: { write: false, lib: { entry: here('client.ts'), formats: ['es'], fileName: 'client' } },
  })) as Rolldown.RolldownOutput[]
  return built[0].output[0].code
}

function escaped(text: string): string {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`)
}

function table(head: readonly string[], rows: readonly (readonly string[])[], kind = 'figures'): string {
  const cells = (row: readonly string[], tag: string) =>
    row.map((cell) => `<${tag}${VERDICT[cell] ?? ''}>${escaped(cell)}</${tag}>`).join('')
  return `<div class="scroll"><table class="${kind}"><thead><tr>${cells(head, 'th')}</tr></thead><tbody>${rows
    .map((row) => `<tr>${cells(row, 'td')}</tr>`)
    .join('\n')}</tbody></table></div>`
}

const VERDICT: Readonly<Record<string, string>> = {
  met: ' class="met"',
  missed: ' class="missed"',
  unreliable: ' class="missed"',
}

function list(items: readonly string[]): string {
  return items.length === 0 ? '' : `<ul>${items.map((item) => `<li>${escaped(item)}</li>`).join('')}</ul>`
}

function chart(id: string, title: string): string {
  return `<figure><figcaption>${escaped(title)}</figcaption><div id="${id}"></div></figure>`
}
