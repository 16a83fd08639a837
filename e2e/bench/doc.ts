import type { BenchReport } from './results.ts'
import {
  ALTERNATIVE_HEAD,
  adapterLine,
  alternativeCells,
  barLine,
  byteCount,
  caseCells,
  machineLine,
  milliseconds,
  openingCells,
  transferCells,
} from './table.ts'

/** `docs/BENCHMARKS.md`. */
export function benchmarksPage(report: BenchReport): string {
  const { run, model, bars, alternatives, transfer, scaling, cases, sizes, notes, skipped, date } = report
  const { head, rows } = transferCells(report)
  const { fit } = scaling.weights
  const asked = openingCells(report)
  const groups = [...new Set(cases.map(({ group }) => group))]
  const more = Object.entries(report.ratios).filter(([name]) => !bars.some(({ ratio }) => ratio === name))
  return `# Benchmarks

Written by \`npm run bench -- --doc\`; edits are lost. The figures as JSON: [benchmarks.json](benchmarks.json).

Adapter: ${adapterLine(report)}

Machine: ${machineLine(report)}. ${date}.

Base: ${run.model}, ${model.weights.toLocaleString('en')} weights in ${model.dtype}, of which an expert changes ${model.patchedWeights.toLocaleString('en')}. Line: ${run.line}. ${run.runs} runs.${run.only === '' ? '' : ` Only ${run.only}: the rest was not measured.`}

## Repeat it

\`\`\`sh
npm run bench                                   # everything; table, and a report with charts
npm run bench -- --only switching --runs 5      # a group, a part of a name, or a glob
npm run bench -- --json mine.json
npm run bench -- compare docs/benchmarks.json mine.json
\`\`\`

\`--help\` has the rest. It needs a Chromium and takes a GPU where there is one. Runs on a GPU and on a software adapter
are never compared. Cases of a group take turns in one page, after a warm-up that does not count, and wait for the GPU's
queue. Figures are medians; the spread is the interquartile range over the median, and a time with a spread over 25 % or
fewer than 3 samples is marked unreliable.

## Bars

Ratios of figures of this one run.

${table(
  ['ratio', '', 'here', 'bar', ''],
  bars.map((bar) => barLine(bar, report)),
)}

Also measured: ${more.map(([name, value]) => `${name} ${value === null ? 'not measured' : Number(value.toPrecision(3))}`).join(', ')}.

What a ratio is made of: \`reloadVsSwitch\` takes what disposing, loading and compiling add to the next first token, since a
session that is ready has compiled nothing yet (\`reloadReadyVsSwitch\` leaves that out). \`denseVsApply\` is wall time with both
deltas in VRAM already (\`…Kernels\`: GPU timestamps alone). \`bytesVsF16Delta\` is of the expert nearest to 5 % density.
\`residentSpread\` compares, round by round, what each number of residents takes of the round's mean (each the fastest of nine
switches on and off, in orders that rotate: other work on the machine only adds); 0 is no difference. \`switchVsInTurn\` is
A → B over the sum of going back to the base and on to A. \`adapterVsAuto\` is until the first token with an f16 adapter that is
fetched, over \`auto\` with its terms; \`…BesideBase\` leaves out what the base alone needs on both sides.

## Against what one would use instead

On the same base, in the same run.

${table(ALTERNATIVE_HEAD, alternatives.map(alternativeCells))}

${list(alternatives.flatMap(({ name, note }) => (note === undefined ? [] : [`${name}: ${note}`])))}

## From the network to usable

Network: ${transfer.networkIs}.

${table(head, rows)}

## From a request to its first token

The base is at hand and the expert nowhere cached. Line: ${report.opening.line}. The list of experts is here unless a row says
otherwise; shaders were compiled before. The adapter is a LoRA of rank 8 on the same matrices.

${table(asked.head, asked.rows)}

## What a switch costs as things grow

A → B at 5 % by weights of the base${
    fit === null
      ? ''
      : `: ${milliseconds(fit.intercept)} + ${milliseconds(fit.slope * 2 ** 20)} a million (2^20) weights, R² ${fit.r2.toFixed(4)}`
  }. Largest base tried: ${(run.largestStore / 2 ** 20).toFixed(0)} M${
    report.adapter.software ? ' (a software adapter is slow; `--max-weights 268435456` goes on to 256 M)' : ''
  }.

${['weights', 'density', 'residents']
  .map((name) => {
    const { points } = scaling[name as keyof typeof scaling]
    const label = { weights: 'M weights', density: 'density, %', residents: 'experts in VRAM' }[
      name
    ] as string
    const unit = { weights: 2 ** 20, density: 0.01, residents: 1 }[name] as number
    return table(
      [label, ...points.map(({ x }) => String(Number((x / unit).toPrecision(3))))],
      [['ms', ...points.map(({ ms }) => String(Number(ms.toPrecision(3))))]],
    )
  })
  .join('\n\n')}

## All cases

${groups
  .map(
    (group) =>
      `### ${group}\n\n${table(
        ['case', 'median', 'spread', 'samples', ''],
        cases.filter((found) => found.group === group).map(caseCells),
      )}`,
  )
  .join('\n\n')}

## Sizes on the wire

${table(
  ['', 'bytes'],
  Object.entries(sizes).map(([name, bytes]) => [name, byteCount(bytes)]),
)}

## Notes

${list(Object.entries(notes).map(([name, note]) => `${name}: ${note === true ? 'yes' : note === false ? 'no' : note}`))}
${skipped.length === 0 ? '' : `\nSkipped:\n\n${list(skipped.map(({ name, reason }) => `${name}: ${reason}`))}\n`}`
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')
}

function list(items: readonly string[]): string {
  return items.map((item) => `- ${item}`).join('\n')
}
