/**
 * `npm start`: installs what is missing, builds the page if its sources are newer, serves it, opens it.
 *
 * @module
 */
import { bin, ensureDependencies, isStale, run } from './setup.mjs'

const SOURCES = ['src', 'shaders', 'public', 'index.html', 'vite.config.ts', 'package-lock.json']

await ensureDependencies()
if (isStale('dist/index.html', SOURCES)) {
  const code = await run(bin('vite'), ['build', '--logLevel', 'warn'])
  if (code !== 0) process.exit(code)
}
console.log('The page opens at http://localhost:5173/ (or the next free port, printed below). Ctrl+C ends.')
process.exit(await run(bin('vite'), ['preview', '--port', '5173', '--open', ...process.argv.slice(2)]))
