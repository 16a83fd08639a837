/**
 * What people install: the built library, by the names of package.json.
 *
 * @module
 */
import { execFile, spawn, spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { gzipSync } from 'node:zlib'
import { expect, test } from '@playwright/test'
import { LONG } from './support/tier.ts'

const ROOT = new URL('..', import.meta.url).pathname
const { exports } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
  exports: Record<string, { types: string; default?: string } | string>
}

test('every export has its code and its types', () => {
  const entries = Object.values(exports).filter((entry) => typeof entry === 'object')
  expect(entries).toHaveLength(7)
  for (const { types, default: code } of entries) {
    expect(existsSync(join(ROOT, types)), types).toBe(true)
    // Types of frameworks come without code.
    if (code !== undefined) expect(existsSync(join(ROOT, code)), code).toBe(true)
  }
})

test('the format part runs in Node as it was built', async () => {
  const { parseHead, parsePrefix } = await import(pathToFileURL(join(ROOT, 'lib/format.js')).href)
  const file = new Uint8Array(readFileSync(join(ROOT, 'public/experts/css.trit')))
  const { headBytes } = parsePrefix(file.subarray(0, 64), 'css.trit')
  const head = await parseHead(file.slice(0, headBytes), 'css.trit')
  expect(head.table.kind).toBe('expert')
  expect(head.table.tensors.length).toBeGreaterThan(40)
})

test('transformers.js is in the engine worker and in nothing that a page itself loads', () => {
  const has = (folder: string) =>
    readdirSync(join(ROOT, folder))
      .filter((name) => name.endsWith('.js'))
      .map((name) => readFileSync(join(ROOT, folder, name), 'utf8').includes('AutoTokenizer'))
  expect(has('lib/assets')).toContain(true)
  expect(has('lib')).not.toContain(true)
})

/** What a browser loads for one entry before anything is called. */
function withImports(entry: string, seen = new Map<string, string>()): Map<string, string> {
  if (seen.has(entry)) return seen
  const code = readFileSync(join(ROOT, 'lib', entry), 'utf8')
  seen.set(entry, code)
  for (const [, path] of code.matchAll(/^(?:import|export)\b[^;]*?"\.\/([^"]+\.js)"/gm))
    withImports(path!, seen)
  return seen
}

test('graph surgery comes with attachExperts and with nothing else', () => {
  const bytesOf = (entry: string) =>
    [...withImports(entry).values()].reduce((sum, code) => sum + gzipSync(code).length, 0)
  expect([...withImports('element.js').keys()].join()).toMatch(/loader-/)
  expect(bytesOf('tritswap.js')).toBeLessThanOrEqual(23_500)
  expect(bytesOf('element.js')).toBeLessThanOrEqual(71_000)
  const [, attach] =
    /import\("\.\/(attach-[^"]+\.js)"\)/.exec([...withImports('tritswap.js').values()].join()) ?? []
  expect(bytesOf(attach!)).toBeGreaterThan(60_000)
})

test('importing any entry in Node is silent, and only a call says that it takes a browser', async () => {
  for (const entry of ['tritswap', 'element', 'format', 'compress', 'openai']) {
    const code = `import(${JSON.stringify(pathToFileURL(join(ROOT, `lib/${entry}.js`)).href)})`
    const { stdout, stderr } = await promisify(execFile)(process.execPath, ['-e', code])
    expect({ entry, stdout, stderr }).toEqual({ entry, stdout: '', stderr: '' })
  }
  const { ExpertLoader } = await import(pathToFileURL(join(ROOT, 'lib/tritswap.js')).href)
  await expect(ExpertLoader.create({ model: './m' })).rejects.toMatchObject({ tag: 'unsupported' })
  expect(await ExpertLoader.availability({ model: './m' })).toMatchObject({ status: 'unavailable' })
})

test('bundlers find each file that is fetched by its literal address, and no address of a folder', () => {
  const found = readdirSync(join(ROOT, 'lib'))
    .filter((name) => name.endsWith('.js'))
    .flatMap((name) => [
      ...readFileSync(join(ROOT, 'lib', name), 'utf8').matchAll(/new URL\(([^()]*), import\.meta\.url\)/g),
    ])
    .map(([, address]) => JSON.parse(address!) as string)
  const files = ['engine.js', 'fetcher.js'].concat(
    readdirSync(join(ROOT, 'lib/assets')).filter((name) => /\.(wasm|mjs)$/.test(name)),
  )
  expect(found.sort()).toEqual(files.map((name) => `./assets/${name}`).sort())
})

test('the package depends on nothing, and what it imports is in it', () => {
  const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
  expect(manifest.dependencies ?? {}).toEqual({})
  const scripts = ['lib', 'lib/assets'].flatMap((folder) =>
    readdirSync(join(ROOT, folder))
      .filter((name) => name.endsWith('.js'))
      .map((name) => readFileSync(join(ROOT, folder, name), 'utf8')),
  )
  // Scripts of the library are not minified to one line: an import stands at the beginning of one.
  const imported = scripts.flatMap((code) => [
    ...code.matchAll(/^(?:import|export)[^;]*?from ?"([^"]+)";?$/gm),
  ])
  expect(imported.map(([, path]) => path!).filter((path) => !path.startsWith('./'))).toEqual([])
})

const CONSUMER = `
import { attachExperts, type Availability, ExpertLoader, isTritswapError } from 'tritswap'
import { compressCheckpoint } from 'tritswap/compress'
import type { ExpertSwitcher } from 'tritswap/element'
import { parseHead } from 'tritswap/format'
import { openaiFrom } from 'tritswap/openai'

const loader: ExpertLoader = await ExpertLoader.create({ model: '/m', assets: '/a' })
const availability: Availability = await ExpertLoader.availability({ model: '/m' })
for await (const { text } of loader.generate('x', { maxNewTokens: 3 })) console.log(text satisfies string)
const { chat } = openaiFrom(loader)
const response_format = { type: 'json_object' } as const
const { choices } = await chat.completions.create({ model: 'x', messages: [], response_format })
console.log(choices[0]?.message.content satisfies string | null | undefined)
const element: ExpertSwitcher | null = document.querySelector('expert-switcher')
await element?.activate('bard')
// @ts-expect-error no such option
await ExpertLoader.create({ modle: '/m' })
console.log(compressCheckpoint, parseHead, isTritswapError, attachExperts, availability)
`

test('a strict project compiles against its declarations, and checks them', () => {
  const folder = mkdtempSync(join(tmpdir(), 'tritswap-types-'))
  try {
    mkdirSync(join(folder, 'node_modules'))
    symlinkSync(ROOT, join(folder, 'node_modules/tritswap'), 'dir')
    // Whose types that entry speaks.
    symlinkSync(join(ROOT, 'node_modules/openai'), join(folder, 'node_modules/openai'), 'dir')
    writeFileSync(join(folder, 'package.json'), '{ "type": "module" }')
    const file = join(folder, 'consumer.ts')
    writeFileSync(file, CONSUMER)
    // Node16 is what check_package.mjs asks "are the types wrong" for, of the TypeScript that most people have.
    for (const [moduleResolution, module] of Object.entries({ Bundler: 'ESNext', NodeNext: 'NodeNext' })) {
      const compilerOptions = {
        strict: true,
        skipLibCheck: false,
        noEmit: true,
        target: 'ES2022',
        lib: ['ES2023', 'DOM', 'DOM.Iterable', 'DOM.AsyncIterable'],
        types: [],
        module,
        moduleResolution,
        preserveSymlinks: true,
      }
      writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: [file] }))
      for (const compiler of LONG ? ['typescript-native', 'typescript'] : ['typescript-native']) {
        const tsc = join(ROOT, 'node_modules', compiler, 'bin/tsc')
        const { stdout } = spawnSync(process.execPath, [tsc, '-p', folder], { encoding: 'utf8' })
        expect(stdout, `${moduleResolution}, ${compiler}`).toBe('')
      }
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('npm start says where the page is, also where there is no browser and its port is taken', async () => {
  const taken = createServer()
  await new Promise<void>((resolve) => taken.listen(0, 'localhost', resolve))
  const { port } = taken.address() as { port: number }
  // Node warns where both this and FORCE_COLOR, which Playwright sets, are there.
  const env = { ...process.env, NO_COLOR: undefined }
  const child = spawn(process.execPath, ['scripts/start.mjs', '--port', String(port)], { cwd: ROOT, env })
  try {
    let errors = ''
    child.stderr.setEncoding('utf8').on('data', (text) => {
      errors += text
    })
    const [line] = (await new Promise<string[]>((resolve) => {
      createInterface(child.stdout).on('line', (text) => text.includes('http') && resolve([text]))
    })) as [string]
    const url = /http:\S+/.exec(line)![0]
    expect(new URL(url).port).not.toBe(String(port))
    expect(await (await fetch(url)).text()).toContain('<expert-switcher')
    expect(errors).toBe('')
  } finally {
    child.kill()
    taken.close()
  }
})
