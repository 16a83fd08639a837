/** `npm run bench`: see `options.ts` for what it takes. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { compareReports } from './compare.ts'
import { benchmarksPage } from './doc.ts'
import { benchOptions, USAGE } from './options.ts'
import { reportPage } from './report/page.ts'
import type { BenchReport } from './results.ts'
import { runBench } from './run.ts'
import { summaryText } from './table.ts'

const ROOT = new URL('../..', import.meta.url).pathname
const argv = process.argv.slice(2)

if (argv.includes('--help') || argv.includes('-h')) console.log(USAGE)
else if (argv[0] === 'compare') compare(argv.slice(1))
else await run()

function compare(paths: readonly string[]): void {
  if (paths.length !== 2) {
    fail(`compare: expected two files, found ${paths.length}`)
    return
  }
  const [a, b] = paths.map((path) => JSON.parse(readFileSync(path, 'utf8')) as BenchReport)
  try {
    console.log(compareReports(a, b))
  } catch (error) {
    fail((error as Error).message)
  }
}

async function run(): Promise<void> {
  let options: ReturnType<typeof benchOptions>
  try {
    options = benchOptions(argv)
  } catch (error) {
    fail(`${(error as Error).message}\n\n${USAGE}`)
    return
  }
  const started = performance.now()
  let last = ''
  const writeJson = (report: BenchReport) => {
    if (options.json !== undefined) write(options.json, jsonOf(report))
  }
  const report = await runBench(options, {
    // A long run that is stopped leaves its figures so far.
    onReport: writeJson,
    onProgress: ({ group, stage }) => {
      const line = `${group}: ${stage}`
      if (line === last) return
      last = line
      const seconds = ((performance.now() - started) / 1000).toFixed(0)
      console.error(`${seconds.padStart(4)} s  ${line}`)
    },
  })
  writeJson(report)
  if (report.cases.length === 0 && report.skipped.length === 0)
    fail(`no case matches ${options.only.join(' or ')}`)
  console.log(summaryText(report))
  const html = options.html ?? join(ROOT, '.cache/bench/report.html')
  write(html, await reportPage(report))
  console.log(`\nReport with charts: ${html}`)
  if (options.doc) {
    write(join(ROOT, 'docs/benchmarks.json'), jsonOf(report))
    write(join(ROOT, 'docs/BENCHMARKS.md'), benchmarksPage(report))
  }
}

function jsonOf(report: BenchReport): string {
  return `${JSON.stringify(report, null, 2)}\n`
}

function write(file: string, text: string): void {
  mkdirSync(dirname(resolve(file)), { recursive: true })
  writeFileSync(file, text)
}

function fail(message: string): void {
  console.error(message)
  process.exitCode = 2
}
