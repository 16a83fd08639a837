/**
 * `docs/RESULTS.md` says what `results/data` holds, and the models that it is measured on are those that were trained.
 *
 * @module
 */
import { createHash } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { writeDocument } from '../../results/document.ts'
import { Store } from '../../results/store.ts'
import { TABLES } from '../../results/tables/index.ts'
import { meanMagnitude, pruned, randomPositions, rounded4Bit, signs } from '../../results/task.ts'
import { overDraws } from '../../results/text.ts'

const ROOT = join(import.meta.dirname, '../..')
const read = (path: string) => readFileSync(join(ROOT, path), 'utf8')

test('the document and its charts are what the figures give', () => {
  const folder = mkdtempSync(join(tmpdir(), 'tritswap-results-'))
  try {
    const stores = new Map(TABLES.map(({ id }) => [id, new Store(join(ROOT, 'results/data'), id)]))
    writeDocument(folder, TABLES, stores)
    for (const name of readdirSync(join(folder, 'docs'), { recursive: true }) as string[]) {
      if (!/\.(md|svg)$/.test(name)) continue
      expect(readFileSync(join(folder, 'docs', name), 'utf8'), name).toBe(read(`docs/${name}`))
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('models are those whose hashes were written when they were made', () => {
  const hashes = JSON.parse(read('results/models/hashes.json')) as Record<string, string>
  const files = (
    readdirSync(join(ROOT, 'results/models'), { recursive: true, withFileTypes: true }) as never as {
      isFile(): boolean
      name: string
      parentPath: string
    }[]
  )
    .filter((entry) => entry.isFile() && entry.name !== 'hashes.json')
    .map(({ parentPath, name }) => join(parentPath, name).slice(join(ROOT, 'results/models/').length))
  expect(Object.keys(hashes).sort()).toEqual(files.sort())
  for (const [file, hash] of Object.entries(hashes)) {
    const found = createHash('sha256')
      .update(readFileSync(join(ROOT, 'results/models', file)))
      .digest('hex')
    expect(found, file).toBe(hash)
  }
})

test('rules of the ablation', () => {
  const tau = Float32Array.from([4, -3, 2, -1])
  expect([...pruned(tau, 0.5)]).toEqual([4, -3, 0, 0])
  expect([...meanMagnitude(tau, 0.5)]).toEqual([3.5, -3.5, 0, 0])
  expect([...signs(tau, 1)]).toEqual([2.5, -2.5, 2.5, -2.5])
  const kept = [...randomPositions(tau, 1)]
  // Σ τ² over Σ |τ|.
  expect(kept).toEqual([3, -3, 3, -3])
})

test('NF4 gives levels times the largest of a block', () => {
  const weight = Float32Array.from({ length: 128 }, (_, i) => (i < 64 ? i - 32 : (i - 96) / 100))
  const rounded = rounded4Bit(weight)
  expect(rounded[0]).toBe(-32)
  expect(rounded[32]).toBe(0)
  expect(Math.abs(rounded[64])).toBeCloseTo(0.32, 6)
  expect(
    new Set([...rounded.subarray(0, 64)].map((value) => Math.fround(value / 32))).size,
  ).toBeLessThanOrEqual(16)
  for (const [i, value] of rounded.entries())
    expect(Math.abs(value - weight[i])).toBeLessThan(0.16 * (i < 64 ? 32 : 0.32))
})

test('a mean over draws has the error of a mean', () => {
  const { value, se } = overDraws([1, 2, 3, 4])
  expect(value).toBe(2.5)
  expect(se).toBeCloseTo(Math.sqrt(5 / 3 / 4), 10)
})
