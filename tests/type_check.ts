/**
 * Code that is checked by TypeScript against the sources, as a project of its own.
 *
 * @module
 */
import { execFile } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'

const ROOT = join(import.meta.dirname, '..')
const TSC = join(ROOT, 'node_modules/typescript-native/bin/tsc')

/** An error of the compiler. */
export interface TypeProblem {
  file: string
  /** From 1. */
  line: number
  message: string
}

/**
 * Checks files under the options of the repository.
 *
 * @param name - of their folder below `.cache`, which no other test uses
 * @param files - code by name
 * @param paths - what a module's name leads to, from the root
 */
export async function typeCheck(
  name: string,
  files: Readonly<Record<string, string>>,
  paths: Readonly<Record<string, string>>,
): Promise<TypeProblem[]> {
  const folder = join(ROOT, '.cache/types', name)
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  for (const [file, code] of Object.entries(files)) writeFileSync(join(folder, file), code)
  const config = {
    extends: '../../../tsconfig.json',
    compilerOptions: {
      noEmit: true,
      noUnusedLocals: false,
      jsx: 'preserve',
      paths: Object.fromEntries(Object.entries(paths).map(([from, to]) => [from, [join(ROOT, to)]])),
    },
    include: ['.'],
  }
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(config))
  const command = [TSC, '-p', folder, '--pretty', 'false']
  const { stdout } = await promisify(execFile)(process.execPath, command, { cwd: folder }).catch(
    (failed: { stdout: string }) => failed,
  )
  const problems = [...stdout.matchAll(/^(\S+)\((\d+),\d+\): error (.+)$/gm)]
  // What is no error of a file would be missed.
  if (problems.length === 0 && stdout.trim() !== '') throw new Error(stdout)
  return problems.map(([, file, line, message]) => ({ file: file!, line: Number(line), message: message! }))
}
