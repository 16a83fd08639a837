/** Before `npm pack` and `npm publish`: builds what the package holds, after installing what that takes. */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { bin, ensureDependencies, root, run } from './setup.mjs'

await ensureDependencies()
// Builds of the command line leave the chunks of earlier ones, which may still run; the package is made without them.
rmSync(join(root, 'dist/cli'), { recursive: true, force: true })
const viteBuild = (/** @type {string} */ config) => [
  bin('vite'),
  ['build', '--config', config, '--logLevel', 'error'],
]
const steps = [
  viteBuild('vite.cli.config.ts'),
  viteBuild('vite.lib.config.ts'),
  ['npm', ['run', '--silent', 'build:types']],
]
for (const [command, args] of /** @type {[string, string[]][]} */ (steps)) {
  const code = await run(command, args)
  if (code !== 0) process.exit(code)
}
