/**
 * What `npm start` and `npm test` share: nothing but Node is needed to run this file.
 *
 * @module
 */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('..', import.meta.url))

/** npm is a batch file on Windows, which Node starts through a shell only. */
const windows = process.platform === 'win32'

/**
 * Runs a command in the repository with its output shown.
 *
 * @param {string} command
 * @param {string[]} args
 * @param {{ env?: NodeJS.ProcessEnv }} [options]
 * @returns {Promise<number>} the exit code; 127 if the command cannot be started
 */
export function run(command, args, { env } = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: root,
      stdio: 'inherit',
      shell: windows,
      env: { ...process.env, ...env },
    })
    // A terminal's Ctrl+C reaches the child by itself; whoever ends only this process means both.
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
  const code = await run('npm', ['ci', '--no-audit', '--no-fund'])
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
    // Optional packages are those of other operating systems; '' is the project itself.
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
