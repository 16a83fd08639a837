/**
 * `npm test`: installs what is missing (packages, a Chromium), runs every check and every test, and ends
 * with one line `N passed, N failed`: tests of all runners, plus the checks, each of which counts as one.
 * `LONG=1 npm test` is the long tier: the same tests at full length, and those that only run there.
 *
 * After the builds two stages run beside each other at any time: Playwright, whose output is shown as it comes, and the
 * others, whose output is shown as each ends.
 *
 * @module
 */
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { findChromium } from './chromium.mjs'
import { bin, ensureCli, ensureDependencies, root, run } from './setup.mjs'

/** @typedef {{ passed: number, failed: number }} Count */
/** @typedef {(text: string) => void} OnOutput */

const RESULTS = join(root, 'test-results')
/** @type {{ name: string, seconds: number, passed: number, failed: number }[]} */
const stages = []

await ensureDependencies()
await ensureChromium()
rmSync(RESULTS, { recursive: true, force: true })
mkdirSync(RESULTS, { recursive: true })

await Promise.all([
  stage('command line', ensureCli),
  command('page', 'vite', ['build', '--logLevel', 'warn']),
  inTurn(
    () => command('package', 'vite', ['build', '--config', 'vite.lib.config.ts', '--logLevel', 'warn']),
    // After the package, whose build empties the folder.
    () => stage('types of the package', (onOutput) => npmRun('build:types', onOutput)),
  ),
])
await inLanes(2, [
  playwright,
  () => vitest('node', 'alone'),
  () => vitest('browser'),
  () => stage('npm run check', (onOutput) => npmRun('check', onOutput)),
  () => command('generated docs', process.execPath, ['scripts/docs.mjs', '--check']),
  () => command('package as others see it', process.execPath, ['scripts/check_package.mjs']),
])

console.log('\n== seconds')
for (const { name, seconds } of stages) console.log(`${seconds.toFixed(0).padStart(5)}  ${name}`)
const passed = stages.reduce((sum, stage) => sum + stage.passed, 0)
const failed = stages.reduce((sum, stage) => sum + stage.failed, 0)
console.log(`\n${passed} passed, ${failed} failed`)
process.exit(failed === 0 ? 0 : 1)

/** A check: a command that counts as one test. @param {string} name @param {string} program @param {string[]} args */
function command(name, program, args) {
  return stage(name, (onOutput) => run(pathOf(program), args, { onOutput }))
}

/** @param {string} script @param {OnOutput} onOutput */
function npmRun(script, onOutput) {
  return run('npm', ['run', '--silent', script], { onOutput })
}

/** @param {string[]} projects */
function vitest(...projects) {
  const output = join(RESULTS, `vitest-${projects[0]}.json`)
  const chosen = projects.flatMap((project) => ['--project', project])
  const args = ['run', ...chosen, '--reporter=default', '--reporter=json']
  return stage(
    `vitest, project ${projects.join(' and ')}`,
    (onOutput) => run(bin('vitest'), [...args, `--outputFile.json=${output}`], { onOutput }),
    () => {
      const report = readJson(output)
      return { passed: report?.numPassedTests ?? 0, failed: report?.numFailedTests ?? 0 }
    },
  )
}

function playwright() {
  // Not in test-results: Playwright empties that folder when it starts.
  const output = join(root, '.cache', 'playwright.json')
  rmSync(output, { force: true })
  const env = { PLAYWRIGHT_JSON_OUTPUT_NAME: output }
  console.log('\n== playwright')
  return stage(
    'playwright',
    () => run(bin('playwright'), ['test', '--reporter=list,json'], { env }),
    () => {
      const stats = readJson(output)?.stats
      return { passed: (stats?.expected ?? 0) + (stats?.flaky ?? 0), failed: stats?.unexpected ?? 0 }
    },
  )
}

/**
 * Runs a stage, shows what it gave to `onOutput`, and records its tests. One that fails without a failed test (a crash,
 * an error outside of tests) counts as one.
 *
 * @param {string} name
 * @param {(onOutput: OnOutput) => Promise<number>} start - returns its exit code
 * @param {() => Count} [counted] - its tests, when it has ended; without it the stage is one test
 */
async function stage(name, start, counted) {
  const from = performance.now()
  let output = ''
  const code = await start((text) => {
    output += text
  })
  const count = counted?.() ?? { passed: code === 0 ? 1 : 0, failed: 0 }
  if (code !== 0 && count.failed === 0) count.failed = 1
  if (output !== '') console.log(`\n== ${name}\n${output.trimEnd()}\n`)
  if (count.failed > 0) console.error(`${name}: failed`)
  stages.push({ name, seconds: (performance.now() - from) / 1000, ...count })
}

/** @param {(() => Promise<void>)[]} tasks */
async function inTurn(...tasks) {
  for (const task of tasks) await task()
}

/** The longest first, so that lanes end together. @param {number} lanes @param {(() => Promise<void>)[]} tasks */
async function inLanes(lanes, tasks) {
  const waiting = [...tasks]
  const lane = async () => {
    for (let task = waiting.shift(); task !== undefined; task = waiting.shift()) await task()
  }
  await Promise.all(Array.from({ length: lanes }, lane))
}

/** @param {string} program */
function pathOf(program) {
  return program === process.execPath ? program : bin(program)
}

/** @param {string} path */
function readJson(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'))
  } catch {
    return undefined
  }
}

async function ensureChromium() {
  if (findChromium() !== undefined) return
  console.log('No Chromium found (set CHROME_PATH to use one): installing Playwright’s ...')
  if ((await run(bin('playwright'), ['install', 'chromium'])) === 0) return
  if (process.platform === 'linux' && process.getuid?.() === 0) {
    console.log('... or the one of the system')
    await run('apt-get', ['update'])
    if ((await run('apt-get', ['install', '-y', '--no-install-recommends', 'chromium'])) === 0) return
  }
  console.error(
    'Cannot install a Chromium: the tests in a browser will fail; install one and set CHROME_PATH',
  )
}
