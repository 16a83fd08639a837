/**
 * `npm start`: installs what is missing, builds the page if its sources are newer, serves it, opens it.
 *
 * @module
 */
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { bin, ensureDependencies, root, run } from './setup.mjs'

const SOURCES = ['src', 'shaders', 'public', 'index.html', 'vite.config.ts', 'package-lock.json']

await ensureDependencies()
if (newest('dist/index.html') < Math.max(...SOURCES.map(newest))) {
  const code = await run(bin('vite'), ['build', '--logLevel', 'warn'])
  if (code !== 0) process.exit(code)
}
console.log('The page opens at http://localhost:5173/ (or the next free port, printed below). Ctrl+C ends.')
process.exit(await run(bin('vite'), ['preview', '--port', '5173', '--open', ...process.argv.slice(2)]))

/** Time of the last change of a file or of anything below a folder; 0 if there is none. @param {string} path */
function newest(path) {
  const stat = statSync(join(root, path), { throwIfNoEntry: false })
  if (stat === undefined) return 0
  if (!stat.isDirectory()) return stat.mtimeMs
  return readdirSync(join(root, path)).reduce((time, name) => Math.max(time, newest(join(path, name))), 0)
}
