/** What `inspect` says of terms: how near their vectors are to their entropy, and what the head adds to them. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { inspectFile } from '../../src/cli/inspect.ts'
import { encodeTerms } from '../../src/format/codecs/terms_code.ts'
import { memorySpool, TritWriter } from '../../src/format/index.ts'
import { PLAIN_TABLE } from '../format/samples.ts'
import { tritswap } from './in_process.ts'

const SKILLS = join(import.meta.dirname, '../../public/experts/smollm2')
const folder = mkdtempSync(join(tmpdir(), 'tritswap-inspect-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

test.each(['sql', 'clinical', 'sentiment', 'tools'])(
  '%s: vectors within 5 % of their entropy, a head of at most 3 kB',
  async (skill) => {
    const path = join(SKILLS, `${skill}.trit`)
    const { totals, tensors, file } = await inspectFile(path)
    const { terms, bytes, entropyBytes } = totals.vectors!
    expect(bytes / entropyBytes).toBeLessThanOrEqual(1.05)
    expect(bytes / entropyBytes).toBeGreaterThan(1)
    expect(totals.headBytes).toBeLessThanOrEqual(3000)
    expect(terms).toBe(tensors.reduce((sum, tensor) => sum + tensor.terms!, 0))
    expect(totals.headBytes + 4 * terms + bytes).toBe(file.bytes)
    expect((await tritswap('inspect', path)).out).toMatch(
      new RegExp(`\\n${terms} terms: vectors [\\d.]+ kB, 1\\.0\\d+ × their entropy; head [\\d.]+ kB\\n`),
    )
  },
)

test('of two terms with known shares of zeros', async () => {
  const spool = memorySpool()
  const writer = new TritWriter(spool)
  const shape = [20, 40]
  // Without zeros an entry is one bit, with a half of zeros one and a half; vectors of zeros alone say nothing.
  const vector = (length: number, every: number) =>
    Array.from({ length }, (_, i) => (every === 0 || i % every !== 0 ? 0 : i % (2 * every) === 0 ? 1 : -1))
  const x = Int8Array.from([...vector(20, 1), ...vector(20, 2)])
  const y = Int8Array.from([...vector(40, 1), ...vector(40, 0)])
  const section = encodeTerms(shape, { scales: Float32Array.of(1, 2), x, y })
  await writer.add(
    { name: 'w', target: 'w', shape, role: 'delta', layout: 'linear', codec: 'terms', terms: 2 },
    section,
  )
  const path = join(folder, 'known.trit')
  writeFileSync(path, spool.join(await writer.finish(PLAIN_TABLE)))
  const { totals, tensors } = await inspectFile(path)
  expect(totals.vectors).toEqual({ terms: 2, bytes: 24, entropyBytes: (20 + 1.5 * 20 + 40) / 8 })
  expect(tensors[0]).toMatchObject({ terms: 2, bytes: 32, entropyBytes: 8 + 90 / 8 })
  expect(totals.ratioToEntropy).toBeCloseTo((totals.headBytes + 32) / (8 + 90 / 8), 10)
})
