/**
 * `npm start`: installs what is missing, builds the page if its sources are newer, serves it, opens it.
 *
 * @module
 */
import { spawn } from 'node:child_process'
import { parseArgs } from 'node:util'
import { bin, ensureDependencies, isStale, run } from './setup.mjs'

/** The port is taken if it is free, else the next one that is. */
const { values } = parseArgs({ options: { port: { type: 'string', default: '5173' } } })
const SOURCES = [
  ...['src', 'shaders', 'public', 'index.html', 'check', 'check.html', 'tests/gpu'],
  ...['scripts', 'vite.config.ts', 'package-lock.json'],
]

await ensureDependencies()
if (isStale('dist/index.html', SOURCES)) {
  const code = await run(bin('vite'), ['build', '--logLevel', 'error'])
  if (code !== 0) process.exit(code)
}
const { preview } = await import('vite')
const server = await preview({ preview: { port: Number(values.port) }, logLevel: 'silent' })
const [url] = server.resolvedUrls?.local ?? []
console.log(`The page is at ${url} (Ctrl+C ends)`)
if (url !== undefined && process.stdout.isTTY) openInBrowser(url)

/** Opens an address where there is a browser; the address is printed for those who have none. @param {string} url */
function openInBrowser(url) {
  const [command, ...args] = { darwin: ['open'], win32: ['cmd', '/c', 'start', ''] }[
    /** @type {string} */ (process.platform)
  ] ?? ['xdg-open']
  spawn(command, [...args, url], { stdio: 'ignore', detached: true })
    .on('error', () => {})
    .unref()
}
