import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Row } from './run.ts'

/** docs/COMPATIBILITY.md: one table for each model, what is left out below it. */
export function compatibilityPage(rows: readonly Row[]): string {
  const models = [...new Set(rows.map(({ model }) => model))]
  const count = (verdict: string) => rows.filter((row) => row.verdict === verdict).length
  return `# Compatibility

${readFileSync(join(import.meta.dirname, 'does_it_work.md'), 'utf8')}## What was compared

Written by \`npm run compat\`; edits are lost (the part above is \`e2e/compat/does_it_work.md\`). Every graph is prepared twice, by \`tritswap prepare\` and in the browser,
and each expert is applied uncompressed and compressed (density 0.2, alpha 2), reverted, and checked to have left every
bit as it was: merged into float weights (4-bit ones are dequantized at load), and in lines of their own by \`side\` or
\`input\` beside the weights, which then stay 4-bit in q4 graphs. Numbers are the largest difference of outputs in units of their range: of \`base\` to the plain session of
the same graph (1e-3 is allowed for fp32, 2e-2 otherwise), of the others to torch (the same is allowed). In Chromium on
SwiftShader. Adapters of the kinds that peft trains besides LoRA and (IA)³ are those of \`tests/fixtures/kinds\`, in fp32 graphs: torch has outputs of them uncompressed,
and the compressed ones are compared with weights merged on the CPU. Columns that say firefox, which has shader-f16, in Debian's Firefox on llvmpipe (\`--browser chromium --browser firefox\`).

${count('ok')} ok, ${count('refused')} refused, ${count('skipped')} skipped, ${count('wrong')} wrong.

${models
  .map((model) =>
    section(
      model,
      rows.filter((row) => row.model === model),
    ),
  )
  .join('\n')}`
}

function section(model: string, rows: readonly Row[]): string {
  const columns = [...new Set(rows.map(columnOf))]
  const adapters = [...new Set(rows.map(lineOf))]
  const cell = (adapter: string, column: string) => {
    const row = rows.find((candidate) => lineOf(candidate) === adapter && columnOf(candidate) === column)
    if (row === undefined) return ''
    return row.maxDiff === undefined ? row.verdict : `${row.verdict} ${row.maxDiff.toExponential(1)}`
  }
  const table = [
    ['', ...columns],
    ['---', ...columns.map(() => '---')],
    ...adapters.map((adapter) => [adapter, ...columns.map((column) => cell(adapter, column))]),
  ]
  const messages = new Map<string, Row[]>()
  for (const row of rows) {
    if (row.message === undefined) continue
    const message = row.message.split('\n')[0]
    messages.set(message, [...(messages.get(message) ?? []), row])
  }
  const notes = Array.from(messages, ([message, about]) => `- ${subjectOf(about)}: ${message}`)
  return `### ${model}

${table.map((cells) => `| ${cells.join(' | ')} |`).join('\n')}
${notes.length === 0 ? '' : `\n${notes.join('\n')}\n`}`
}

/** Experts that are not merged have lines of their own. */
function lineOf({ adapter, binding }: Row): string {
  return binding === 'merge' ? adapter : `${adapter} by ${binding}`
}

function columnOf({ graph, dtype, browser }: Row): string {
  return `${graph} ${dtype}${browser === 'chromium' ? '' : ` (${browser})`}`
}

/** Who a message is about, in as few words as the rows allow. */
function subjectOf(rows: readonly Row[]): string {
  const all = (key: 'graph' | 'dtype') => [...new Set(rows.map((row) => row[key]))]
  const adapters = [...new Set(rows.map(lineOf))]
  return `${adapters.length > 3 ? `${adapters.length} rows` : adapters.join(', ')} (${all('graph').join(', ')}; ${all('dtype').join(', ')})`
}
