import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { build } from 'vite'

export interface BuiltCli {
  /** Of its script, absolute. */
  path: string
  /** Runs it as a program of its own. */
  run(...argv: string[]): Promise<{ code: number; out: string; err: string }>
  remove(): Promise<void>
}

/** Builds the command line as `npm run build:cli` does, into a folder of its own inside the repository. */
export async function buildCli(): Promise<BuiltCli> {
  const outDir = await mkdtemp(join('node_modules', '.tritswap-cli-'))
  await build({ configFile: 'vite.cli.config.ts', logLevel: 'error', build: { outDir } })
  const run = promisify(execFile)
  return {
    path: resolve(outDir, 'cli.js'),
    async run(...argv) {
      try {
        const { stdout, stderr } = await run(process.execPath, [join(outDir, 'cli.js'), ...argv], {
          maxBuffer: 1 << 26,
        })
        return { code: 0, out: stdout, err: stderr }
      } catch (error) {
        const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string }
        return { code, out: stdout, err: stderr }
      }
    },
    remove: () => rm(outDir, { recursive: true }),
  }
}
