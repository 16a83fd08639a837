import { readFileSync, statSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { openFile } from '../../src/cli/file_source.ts'
import { readHead } from '../../src/format/index.ts'
import { parseRegistry } from '../../src/source/registry.ts'

const PUBLIC = join(import.meta.dirname, '../../public')
const EXPERTS = join(PUBLIC, 'experts')
const { base, experts } = parseRegistry(readFileSync(join(EXPERTS, 'experts.json'), 'utf8'))

test('at least five experts of different fine-tunings are bundled', () => {
  expect(experts.filter(({ variantOf }) => variantOf === undefined).length).toBeGreaterThanOrEqual(5)
})

describe.each(experts)('$id', ({ url, bytes, rootHash, text, quality, replaces, prompt }) => {
  test('is the file that the registry promises, for the bundled base', async () => {
    const path = join(EXPERTS, url)
    const file = await openFile(path)
    const { table } = await readHead(file, { rootHash })
    await file.close()
    expect(statSync(path).size).toBe(bytes)
    expect(table.base.fingerprint).toBe(base?.fingerprint)
    expect(table.prompt).toBe(prompt)
    expect((await readFile(join(EXPERTS, text as string), 'utf8')).length).toBeGreaterThan(20_000)
  })

  test('keeps 88 % of its gain at a 25th of the size', () => {
    expect(quality?.gainKept).toBeGreaterThanOrEqual(0.88)
    expect((replaces?.f16Delta as number) / bytes).toBeGreaterThanOrEqual(25)
  })
})

test('the base is the one that the experts name', async () => {
  const manifest = JSON.parse(await readFile(join(PUBLIC, 'models/demo/tritswap.json'), 'utf8'))
  const weights = await openFile(join(PUBLIC, 'models/demo', manifest.weights.file))
  const head = await readHead(weights, { rootHash: manifest.weights.rootHash })
  await weights.close()
  expect(manifest.fingerprint).toBe(base?.fingerprint)
  expect(head.table.base.fingerprint).toBe(base?.fingerprint)
  expect(await weights.size()).toBe(manifest.weights.bytes)
})
