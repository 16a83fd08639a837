/** Before `npm pack` and `npm publish`: builds what the package holds, after installing what that takes. */
import { bin, ensureDependencies, run } from './setup.mjs'

await ensureDependencies()
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
