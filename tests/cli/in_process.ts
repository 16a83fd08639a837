import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { vi } from 'vitest'
import { main } from '../../src/cli/main.ts'

interface Ran {
  code: number
  out: string
  err: string
}

/** Runs the command line from its sources in this process, which is faster than to start a program. */
export async function tritswap(...argv: string[]): Promise<Ran> {
  const out: string[] = []
  const err: string[] = []
  vi.stubGlobal('__TRITSWAP_VERSION__', '0.0.0')
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => out.push(String(text)) > 0)
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => err.push(String(text)) > 0)
  try {
    const code = await main(argv)
    return { code, out: out.join(''), err: err.join('') }
  } finally {
    vi.restoreAllMocks()
    vi.unstubAllGlobals()
  }
}

/** A line that is one call of the command line, by either of its names, and what a shell makes of the rest. */
const CALL = /^(?:tritswap|node dist\/cli\.js)((?: |'[^']*'|[^'"`$|&;<>\\])*)$/

/**
 * Runs a line of a shell that calls the command line in this process, in a folder.
 * @returns undefined if it is more than a call: such a line takes a shell
 */
export async function tritswapLine(
  line: string,
  cwd: string,
  env: Record<string, string> = {},
): Promise<Ran | undefined> {
  const [, words] = CALL.exec(line) ?? []
  if (words === undefined) return undefined
  // Quotes and patterns are the shell's.
  const { stdout } = await promisify(execFile)('sh', ['-c', `printf '%s\\0' ${words}`], { cwd })
  const before = process.cwd()
  for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value)
  process.chdir(cwd)
  try {
    return await tritswap(...stdout.split('\0').slice(0, -1))
  } finally {
    process.chdir(before)
    vi.unstubAllEnvs()
  }
}
