/** `npm run compat`: tries every model, graph, dtype and adapter of a zoo and writes down what works. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import picomatch from 'picomatch'
import { BROWSERS, type BrowserName } from './browsers.ts'
import { compatibilityPage } from './report.ts'
import { type Row, runCompat } from './run.ts'

const HELP = `npm run compat -- [--zoo DIR] [--json FILE] [--only PATTERN] [--docs FILE] [--browser NAME]

  --zoo DIR       models to try (default ../shared/onnx-zoo)
  --kinds DIR     more adapters for their fp32 graphs (default, for the default zoo: tests/fixtures/kinds)
  --json FILE     writes {rows: [{model, graph, dtype, adapter, binding, verdict, maxDiff, message}]}
  --only PATTERN  only these of model/graph/dtype/adapter; a glob or the start of one, may be repeated
  --docs FILE     writes the page of results (default docs/COMPATIBILITY.md, for all of the default zoo)
  --browser NAME  chromium (default), or firefox: Debian's, on llvmpipe, which has shader-f16; may be repeated: each
                  graph is tried in the first that can run it
`
const ROOT = new URL('../..', import.meta.url).pathname

const { values } = parseArgs({
  args: process.argv.slice(2).filter((argument) => argument !== '--'),
  options: {
    zoo: { type: 'string' },
    kinds: { type: 'string' },
    json: { type: 'string' },
    only: { type: 'string', multiple: true },
    docs: { type: 'string' },
    browser: { type: 'string', multiple: true, default: ['chromium'] },
    help: { type: 'boolean', short: 'h' },
  },
})
if (values.help) {
  console.log(HELP)
  process.exit(0)
}

const only =
  values.only && picomatch(values.only.flatMap((pattern) => [pattern, `${pattern.replace(/\/$/, '')}/**`]))
const zoo = resolve(values.zoo ?? `${ROOT}../shared/onnx-zoo`)
const kinds = values.kinds ?? (values.zoo === undefined ? `${ROOT}tests/fixtures/kinds` : undefined)
const unknown = values.browser.find((name) => !BROWSERS.some((known) => known === name))
if (unknown !== undefined) {
  console.error(`--browser is ${unknown}; it can be ${BROWSERS.join(' or ')}`)
  process.exit(2)
}
const rows = await runCompat({
  zoo,
  ...(kinds !== undefined && { kinds: resolve(kinds) }),
  browsers: values.browser as BrowserName[],
  wanted: only && ((path) => only(path)),
  onRow: print,
})
const docs =
  values.docs ?? (values.zoo === undefined && only === undefined ? `${ROOT}docs/COMPATIBILITY.md` : undefined)
if (values.json !== undefined) write(values.json, `${JSON.stringify({ rows }, null, 1)}\n`)
// The report does not name the zoo's path on this machine.
if (docs !== undefined) write(docs, compatibilityPage(rows).replaceAll(`${zoo}/`, ''))

const count = (verdict: string) => rows.filter((row) => row.verdict === verdict).length
const withoutF16 = rows.filter(({ message }) => message?.includes('shader-f16')).length
console.log(
  `\n${count('ok')} ok, ${count('refused')} refused, ${count('skipped')} skipped (${withoutF16} for lack of f16), ${count('wrong')} wrong`,
)
process.exitCode = count('wrong') > 0 || rows.length === 0 ? 1 : 0

function print({ model, graph, dtype, adapter, binding, verdict, maxDiff, message }: Row): void {
  const difference = maxDiff === undefined ? '' : ` ${maxDiff.toExponential(1)}`
  const why = message === undefined ? '' : `  ${message.split('\n')[0].slice(0, 160)}`
  console.log(`${verdict.padEnd(8)}${[model, graph, dtype, adapter].join('/')} ${binding}${difference}${why}`)
}

function write(file: string, text: string): void {
  mkdirSync(dirname(resolve(file)), { recursive: true })
  writeFileSync(file, text)
}
