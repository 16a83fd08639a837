import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestProject } from 'vitest/node'

declare module 'vitest' {
  export interface ProvidedContext {
    /** A folder for what test files share; it lasts as long as the run. */
    scratch: string
  }
}

export default function setup(project: TestProject): () => void {
  const folder = mkdtempSync(join(tmpdir(), 'tritswap-tests-'))
  project.provide('scratch', folder)
  return () => rmSync(folder, { recursive: true, force: true })
}
