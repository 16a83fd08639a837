import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'

/** The built command line; `ensureCli` of scripts/setup.mjs builds it once, before any test. */
export const CLI = join(import.meta.dirname, '../../dist/cli.js')

const exec = promisify(execFile)

/** Runs it as a program of its own. */
export async function runCli(...argv: string[]): Promise<{ code: number; out: string; err: string }> {
  try {
    const { stdout, stderr } = await exec(process.execPath, [CLI, ...argv], { maxBuffer: 1 << 26 })
    return { code: 0, out: stdout, err: stderr }
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string }
    return { code, out: stdout, err: stderr }
  }
}
