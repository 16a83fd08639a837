/**
 * The code of README and guides: shell commands do what they say, one after the other, in a folder that has what they
 * name; TypeScript compiles against what the package exports, and the example that needs no browser runs. What needs one
 * runs in `e2e/embed.spec.ts`.
 *
 * @module
 */
import { mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import ts from 'typescript'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { codeBlocks } from '../../e2e/support/markdown.ts'
import * as compress from '../../src/compress/index.ts'
import { readHead } from '../../src/format/index.ts'
import { memorySource } from '../../src/source/memory.ts'
import library from '../../vite.lib.config.ts'
import { runLine } from '../cli/built_cli.ts'
import { tritswapLine } from '../cli/in_process.ts'
import { LONG } from '../tier.ts'
import { typeCheck } from '../type_check.ts'
import { isSlow, makeWorkplace, ROOT } from './workplace.ts'

afterEach(() => vi.restoreAllMocks())

/** The commands of a document; those of npm are what runs this. */
function commandsOf(document: string): string[] {
  return codeBlocks(readFileSync(join(ROOT, document), 'utf8'), 'sh')
    .flatMap((block) => block.split('\n'))
    .map((line) => line.replace(/\s+#.*$/, '').trim())
    .filter((line) => line !== '' && !line.startsWith('npm '))
}

/** In the quick tier cli.test.ts runs the built program. */
async function runCommand(command: string, cwd: string) {
  return (LONG ? undefined : await tritswapLine(command, cwd)) ?? runLine(command, { cwd, env: {} })
}

describe.each(['README.md', 'docs/EXPERTS.md'])('%s', (document) => {
  test('its commands run', async () => {
    const place = await makeWorkplace()
    const nowhere = join(place, 'nowhere')
    mkdirSync(nowhere)
    const commands = commandsOf(document)
    expect(commands.length).toBeGreaterThan(3)
    for (const command of commands) {
      if (isSlow(command) && !LONG) {
        // Where nothing is that it names, its options are read all the same: 2 would be wrong usage.
        expect(await runCommand(command, nowhere), command).toMatchObject({ code: 1 })
        continue
      }
      const { code, out, err } = await runCommand(command, place)
      expect({ command, code, err: code === 0 ? '' : err }).toEqual({ command, code: 0, err: '' })
      const [, written] = /--(?:out|peft) (\S+)/.exec(command) ?? []
      if (written !== undefined) expect(statSync(join(place, written)).size, command).toBeGreaterThan(0)
      else if (command.startsWith('node ')) expect(out, command).not.toBe('')
    }
  })
})

/** The API reference is generated: of its blocks, those of modules are examples, the others signatures. */
const DOCUMENTS = [
  'README.md',
  ...readdirSync(join(ROOT, 'docs'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
  ...readdirSync(join(ROOT, 'docs/api'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/api/${name}`),
]
const textOf = (document: string) => {
  const text = readFileSync(join(ROOT, document), 'utf8')
  return document.startsWith('docs/api/') ? text.split(/^## /m)[0]! : text
}

test('every block of code is in a language that a test runs', () => {
  const RUN = ['sh', 'ts', 'html', 'css', 'js', 'jsx', 'vue']
  // How to set up a server that is not here; its headers are tested by the faults of network.spec. And commands on files
  // of the reader's own: tests/cli/eval_chats.test.ts and tests/onnx/gguf.test.ts run the same on small models.
  const SHOWN = ['nginx', 'console']
  const found = DOCUMENTS.flatMap((document) =>
    [...textOf(document).matchAll(/^```(\S+)$/gm)].map(([, is]) => is!),
  )
  expect(found.filter((is) => !RUN.includes(is) && !SHOWN.includes(is))).toEqual([])
  const elsewhere = DOCUMENTS.filter((document) => /^```(html|css|jsx?|vue)$/m.test(textOf(document)))
  expect(elsewhere).toEqual(['README.md', 'docs/EMBED.md', 'docs/FRAMEWORKS.md'])
  const [twoLines] = codeBlocks(textOf('README.md'), 'html')
  expect(codeBlocks(textOf('docs/EMBED.md'), 'html')[0]).toBe(twoLines)
})

test('what several recipes have is the same, each being a whole project, and is what the guide shows', () => {
  const read = (path: string) => readFileSync(join(ROOT, 'e2e/recipes', path), 'utf8').trim()
  const [hook, store] = codeBlocks(textOf('docs/FRAMEWORKS.md'), 'js').map((code) => code.trim())
  expect(read('vite-react/src/use_expert.js')).toBe(hook)
  expect(read('next/app/use_expert.js')).toBe(hook)
  expect(read('sveltekit/src/lib/expert.js')).toBe(store)
  expect(read('nuxt/app/writer.vue')).toBe(read('vue/src/Writer.vue'))
})

test('TypeScript compiles against what the package exports', async () => {
  const blocks = DOCUMENTS.flatMap((document) =>
    codeBlocks(textOf(document), 'ts').map((code, index): [string, string] => [
      `${document.replaceAll(/\W/g, '_')}_${index}.ts`,
      `${code}\ndeclare const baseFile: File, finetunedFile: File\nexport {}\n`,
    ]),
  )
  expect(blocks.length).toBeGreaterThanOrEqual(5)
  const { entry } = library.build!.lib as { entry: Record<string, string> }
  const paths = Object.fromEntries(
    Object.entries(entry).map(([name, file]) => [name === 'tritswap' ? name : `tritswap/${name}`, file]),
  )
  const problems = await typeCheck('snippets', Object.fromEntries(blocks), {
    ...paths,
    '@huggingface/transformers': 'node_modules/@xenova/transformers',
  })
  expect(problems).toEqual([])
})

test('the example of tritswap/compress makes an expert', async () => {
  const [code] = codeBlocks(textOf('docs/api/compress.md'), 'ts')
  const body = ts
    .transpile(code!, { target: ts.ScriptTarget.ES2022 })
    .replace(/^import (\{.*\}) from 'tritswap\/compress';$/m, 'const $1 = compress')
  const run = new Function(
    'compress',
    'baseFile',
    'finetunedFile',
    `return (async () => { ${body}; return file })()`,
  )
  const place = await makeWorkplace()
  const blobOf = (path: string) => new Blob([readFileSync(path)])
  vi.spyOn(console, 'log').mockImplementation(() => {})
  const file = await run(
    compress,
    blobOf(join(place, 'base/model.safetensors')),
    blobOf(join(place, 'finetuned/model.safetensors')),
  )
  expect(compress.inspectHead(await readHead(memorySource(file, 'made')), 'made').kind).toBe('expert')
})
