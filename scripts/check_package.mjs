/**
 * What publint and "are the types wrong" say of the package as `npm pack` makes it of the built library: its exports and
 * declarations, as Node and TypeScript resolve them.
 *
 * @module
 */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { bin, run } from './setup.mjs'

const folder = mkdtempSync(join(tmpdir(), 'tritswap-pack-'))
try {
  let code = await run('npm', ['pack', '--ignore-scripts', '--silent', '--pack-destination', folder])
  const tarball = join(folder, readdirSync(folder)[0] ?? '')
  if (code === 0) code = await run(bin('publint'), ['run', tarball, '--strict'])
  if (code === 0) code = await run(bin('attw'), [tarball, '--profile', 'esm-only', '--format', 'ascii'])
  process.exitCode = code
} finally {
  rmSync(folder, { recursive: true, force: true })
}
