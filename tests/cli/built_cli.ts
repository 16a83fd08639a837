import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'

/** The built command line; `ensureCli` of scripts/setup.mjs builds it once, before any test. */
const CLI = join(import.meta.dirname, '../../dist/cli.js')

const exec = promisify(execFile)

interface Ran {
  code: number
  out: string
  err: string
}

/** Runs it as a program of its own. */
export function runCli(...argv: string[]): Promise<Ran> {
  return ran(process.execPath, [CLI, ...argv])
}

/** Runs a line of a shell that calls it `tritswap` or `node dist/cli.js`. */
export function runLine(
  line: string,
  { cwd, env }: { cwd: string; env: Record<string, string> },
): Promise<Ran> {
  const command = line.replace(/^(tritswap\b|node dist\/cli\.js)/, `"${process.execPath}" "${CLI}"`)
  return ran('sh', ['-c', command], { cwd, env: { ...process.env, ...env } })
}

async function ran(file: string, argv: string[], options: object = {}): Promise<Ran> {
  try {
    const { stdout, stderr } = await exec(file, argv, { maxBuffer: 1 << 26, ...options })
    return { code: 0, out: String(stdout), err: String(stderr) }
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string }
    return { code, out: stdout, err: stderr }
  }
}
