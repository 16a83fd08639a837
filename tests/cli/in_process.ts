import { vi } from 'vitest'
import { main } from '../../src/cli/main.ts'

/** Runs the command line from its sources in this process, which is faster than to start a program. */
export async function tritswap(...argv: string[]): Promise<{ code: number; out: string; err: string }> {
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
