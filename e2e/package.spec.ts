/**
 * What people install: the built library, by the names of package.json.
 *
 * @module
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { gzipSync } from 'node:zlib'
import { expect, test } from '@playwright/test'

const ROOT = new URL('..', import.meta.url).pathname
const { exports } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
  exports: Record<string, { types: string; default: string } | string>
}

test('every export has its code and its types', () => {
  const entries = Object.values(exports).filter((entry) => typeof entry === 'object')
  expect(entries).toHaveLength(4)
  for (const { types, default: code } of entries) {
    expect(existsSync(join(ROOT, types)), types).toBe(true)
    expect(existsSync(join(ROOT, code)), code).toBe(true)
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
  expect(bytesOf('tritswap.js')).toBeLessThanOrEqual(20_000)
  expect(bytesOf('element.js')).toBeLessThanOrEqual(60_000)
  const [, attach] =
    /import\("\.\/(attach-[^"]+\.js)"\)/.exec([...withImports('tritswap.js').values()].join()) ?? []
  expect(bytesOf(attach!)).toBeGreaterThan(60_000)
})
