/**
 * The shell commands of README and guides do what they say, one after the other, in a folder that has what they name.
 *
 * @module
 */
import { execFile } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type BroughtFiles, writeBrought } from '../../e2e/support/brought.ts'
import { codeBlocks } from '../../e2e/support/markdown.ts'
import { type BuiltCli, buildCli } from '../cli/build.ts'

const ROOT = join(import.meta.dirname, '../..')
const ONNX = join(ROOT, '../shared/demo-model/base')

let cli: BuiltCli
let fixtures: string
let brought: BroughtFiles

beforeAll(async () => {
  fixtures = mkdtempSync(join(tmpdir(), 'tritswap-docs-'))
  ;[cli, brought] = await Promise.all([buildCli(), writeBrought(fixtures)])
}, 120_000)

afterAll(async () => {
  rmSync(fixtures, { recursive: true, force: true })
  await cli.remove()
})

/** The commands of a document; those of npm are what runs this. */
function commandsOf(document: string): string[] {
  return codeBlocks(readFileSync(join(ROOT, document), 'utf8'), 'sh')
    .flatMap((block) => block.split('\n'))
    .map((line) => line.replace(/\s+#.*$/, '').trim())
    .filter((line) => line !== '' && !line.startsWith('npm '))
}

/** A folder with everything that the documents' commands name. */
function workplace(): string {
  const folder = mkdtempSync(join(fixtures, 'work-'))
  cpSync(join(brought.base, '..'), join(folder, 'base'), { recursive: true })
  for (const name of ['poet', 'finetuned']) {
    cpSync(brought.finetuned, join(folder, name, 'model.safetensors'), { recursive: true })
  }
  cpSync(brought.lora, join(folder, 'my-lora'), { recursive: true })
  cpSync(join(ROOT, 'public/texts/css.txt'), join(folder, 'text.txt'))
  cpSync(join(ROOT, 'public/experts/css.trit'), join(folder, 'other.trit'))
  cpSync(join(ROOT, 'public/models/demo'), join(folder, 'public/models/demo'), { recursive: true })
  if (existsSync(ONNX)) cpSync(ONNX, join(folder, 'onnx-model'), { recursive: true })
  return folder
}

describe.each(['README.md', 'docs/EXPERTS.md'])('%s', (document) => {
  test('its commands run', async () => {
    const folder = workplace()
    const commands = commandsOf(document)
    expect(commands.length).toBeGreaterThan(3)
    for (const command of commands) {
      // Only the exported graphs of the demo model are no part of the repository.
      if (command.includes('onnx-model') && !existsSync(ONNX)) continue
      const line = command.replaceAll('node dist/cli.js', `"${process.execPath}" "${cli.path}"`)
      const { stdout } = await promisify(execFile)('sh', ['-c', line], { cwd: folder, maxBuffer: 1 << 24 })
      const [, out] = /--out (\S+)/.exec(command) ?? []
      if (out !== undefined) expect(statSync(join(folder, out)).size, command).toBeGreaterThan(0)
      else if (command.startsWith('node ')) expect(stdout, command).not.toBe('')
    }
  }, 300_000)
})
