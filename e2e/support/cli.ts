import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

const ROOT = join(import.meta.dirname, '../..')

/** Runs the built command line. @throws {Error} with its output where it fails */
export function runCli(...argv: string[]): string {
  // What an earlier try of the same test left is made again.
  const env = { ...process.env, TRITSWAP_FORCE: '1' }
  return execFileSync(process.execPath, [join(ROOT, 'dist/cli.js'), ...argv], {
    cwd: ROOT,
    encoding: 'utf8',
    env,
  })
}

/** Figures of `tritswap eval` for the first windows of an expert's text, in bits per byte. */
export function evalFigures(argv: readonly string[], json: string) {
  runCli('eval', ...argv, '--json', json)
  const { experts } = JSON.parse(readFileSync(json, 'utf8')) as { experts: { bpb: Record<string, number> }[] }
  return experts[0]!.bpb
}
