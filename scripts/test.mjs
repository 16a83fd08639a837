/**
 * `npm test`: installs what is missing (packages, a Chromium), runs every check and every test, and ends
 * with one line `N passed, N failed`: tests of all runners, plus the checks, each of which counts as one.
 *
 * @module
 */
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { findChromium } from './chromium.mjs'
import { bin, ensureDependencies, root, run } from './setup.mjs'

const RESULTS = join(root, 'test-results')
const total = { passed: 0, failed: 0 }

await ensureDependencies()
await ensureChromium()
rmSync(RESULTS, { recursive: true, force: true })
mkdirSync(RESULTS, { recursive: true })

await check('types', 'tsc', ['--noEmit', '-p', '.'])
await check('lint and format', 'biome', ['check', '.'])
await check('import rules', 'depcruise', ['src', '--config', '.dependency-cruiser.mjs'])
await check('generated docs', 'node', ['scripts/docs.mjs', '--check'])
await check('page', 'vite', ['build', '--logLevel', 'warn'])
await check('package', 'vite', ['build', '--config', 'vite.lib.config.ts', '--logLevel', 'warn'])
await check('types of the package', 'tsc', ['-p', 'tsconfig.lib.json'])
await vitest('node')
await vitest('browser')
await playwright()

console.log(`\n${total.passed} passed, ${total.failed} failed`)
process.exit(total.failed === 0 ? 0 : 1)

/** @param {string} name @param {string} command @param {string[]} args */
async function check(name, command, args) {
  console.log(`\n== ${name}`)
  const code = await run(command === 'node' ? process.execPath : bin(command), args)
  add(name, code, code === 0 ? { passed: 1, failed: 0 } : { passed: 0, failed: 1 })
}

/** @param {string} project */
async function vitest(project) {
  console.log(`\n== vitest, project ${project}`)
  const output = join(RESULTS, `vitest-${project}.json`)
  const code = await run(bin('vitest'), [
    'run',
    '--project',
    project,
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${output}`,
  ])
  const report = readJson(output)
  add(`vitest ${project}`, code, { passed: report?.numPassedTests ?? 0, failed: report?.numFailedTests ?? 0 })
}

async function playwright() {
  console.log('\n== playwright')
  // Not in test-results: Playwright empties that folder when it starts.
  const output = join(root, '.cache', 'playwright.json')
  rmSync(output, { force: true })
  const env = { PLAYWRIGHT_JSON_OUTPUT_NAME: output }
  const code = await run(bin('playwright'), ['test', '--reporter=list,json'], { env })
  const stats = readJson(output)?.stats
  const passed = (stats?.expected ?? 0) + (stats?.flaky ?? 0)
  add('playwright', code, { passed, failed: stats?.unexpected ?? 0 })
}

/**
 * Adds to the total. A runner that fails without a failed test (a crash, an error outside of tests) counts as one.
 *
 * @param {string} name @param {number} code @param {{ passed: number, failed: number }} count
 */
function add(name, code, count) {
  const failed = code !== 0 && count.failed === 0 ? 1 : count.failed
  if (failed > 0) console.error(`${name}: failed`)
  total.passed += count.passed
  total.failed += failed
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
