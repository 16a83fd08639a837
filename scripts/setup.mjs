/**
 * What `npm start` and `npm test` share. It needs nothing but Node, because it installs everything else.
 *
 * @module
 */
import { spawn } from 'node:child_process'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('..', import.meta.url))

/** npm is a batch file on Windows, which Node starts through a shell only. */
const windows = process.platform === 'win32'

/**
 * Runs a command in the repository. Its output is shown, or given to `onOutput` instead.
 *
 * @param {string} command
 * @param {string[]} args
 * @param {{ env?: NodeJS.ProcessEnv, onOutput?: (text: string) => void }} [options]
 * @returns {Promise<number>} the exit code; 127 if the command cannot be started
 */
export function run(command, args, { env, onOutput } = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: root,
      stdio: onOutput === undefined ? 'inherit' : ['ignore', 'pipe', 'pipe'],
      shell: windows,
      env: { ...process.env, ...env },
    })
    for (const stream of [child.stdout, child.stderr]) stream?.setEncoding('utf8').on('data', onOutput)
    // Ctrl+C in a terminal reaches the child by itself; a signal to this process alone has to be passed on.
    const end = () => child.kill()
    process.once('SIGTERM', end)
    child.on('error', () => resolve(127))
    child.on('close', (code) => {
      process.off('SIGTERM', end)
      resolve(code ?? 1)
    })
  })
}

/** The path of a file in node_modules/.bin. @param {string} name */
export function bin(name) {
  return join(root, 'node_modules', '.bin', windows ? `${name}.cmd` : name)
}

/** Runs `npm ci` unless node_modules holds what package-lock.json says. */
export async function ensureDependencies() {
  if (installed()) return
  console.log('Installing the packages of package-lock.json (npm ci) ...')
  const code = await run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'])
  if (code !== 0) {
    console.error(`Cannot install the packages: npm ci ended with code ${code}; its output is above`)
    process.exit(code)
  }
}

/** True if every package of the lock file stands in npm's record of node_modules with the same version. */
function installed() {
  const wanted = lockedPackages(join(root, 'package-lock.json'))
  const found = lockedPackages(join(root, 'node_modules', '.package-lock.json'))
  if (wanted === undefined || found === undefined) return false
  return Object.entries(wanted).every(
    // Optional packages belong to other operating systems; '' is the project itself.
    ([path, { version, optional }]) => path === '' || optional || found[path]?.version === version,
  )
}

/** @param {string} path @returns {Record<string, { version?: string, optional?: boolean }> | undefined} */
function lockedPackages(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8')).packages
  } catch {
    return undefined
  }
}

/**
 * Builds the command line unless `dist/cli.js` is newer than its sources, so that all tests of a run share one build.
 *
 * @returns {Promise<number>} the exit code of the build
 */
export async function ensureCli() {
  if (!isStale('dist/cli.js', CLI_SOURCES)) return 0
  return run(bin('vite'), ['build', '--config', 'vite.cli.config.ts', '--logLevel', 'error'])
}

const CLI_SOURCES = ['src', 'vite.cli.config.ts', 'package-lock.json']

/** True if a source, or anything below it, has changed since `output` was written. @param {string} output @param {string[]} sources */
export function isStale(output, sources) {
  return newest(output) < Math.max(...sources.map(newest))
}

/** Time of the last change of a file or of anything below a folder; 0 if there is none. @param {string} path */
function newest(path) {
  const stat = statSync(join(root, path), { throwIfNoEntry: false })
  if (stat === undefined) return 0
  if (!stat.isDirectory()) return stat.mtimeMs
  return readdirSync(join(root, path)).reduce((time, name) => Math.max(time, newest(join(path, name))), 0)
}
