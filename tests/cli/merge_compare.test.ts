import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readHead } from '../../src/format/index.ts'
import { memorySource } from '../../src/source/memory.ts'
import { buildFile, PLAIN_TABLE, randomEntries } from '../format/samples.ts'
import { tritswap } from './in_process.ts'

let folder: string
const at = (name: string) => join(folder, name)

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tritswap-'))
  for (const [i, name] of ['a', 'b', 'other'].entries()) {
    const entries = randomEntries(6400, 0.1, 977 * i + 51)
    const base = { fingerprint: (name === 'other' ? 'b' : 'a').repeat(64) }
    await writeFile(
      at(`${name}.trit`),
      await buildFile([{ name: 'w', shape: [80, 80], entries, scale: 0.5 }], { ...PLAIN_TABLE, base }),
    )
  }
})
afterAll(async () => {
  await rm(folder, { recursive: true })
})

describe('tritswap merge', () => {
  test('writes an expert that says what it was made from', async () => {
    const { code, out } = await tritswap(
      'merge',
      at('a.trit'),
      at('b.trit'),
      '--method',
      'ties',
      '--density',
      '0.05',
      '--label',
      'Both',
      '--out',
      at('m.trit'),
      '--json',
    )
    expect(code).toBe(0)
    expect(JSON.parse(out)).toMatchObject({ label: 'Both', totals: { weights: 6400, kept: 320 } })
    const { table } = await readHead(memorySource(await readFile(at('m.trit'))))
    expect(table.sources.map(({ name }) => name)).toEqual(['a.trit', 'b.trit'])
    expect(table.base.fingerprint).toBe('a'.repeat(64))
    expect(table.createdWith).toBe('tritswap 0.0.0')
  })

  test('takes an expert away with a negative weight', async () => {
    const { code } = await tritswap(
      'merge',
      at('a.trit'),
      at('b.trit'),
      '--method',
      'task-arithmetic',
      '--weights=1,-1',
      '--out',
      at('n.trit'),
    )
    expect(code).toBe(0)
    const { out } = await tritswap('compare', at('a.trit'), at('b.trit'), at('n.trit'), '--json')
    const { total } = JSON.parse(out)
    expect(total[0][2].cosine).toBeGreaterThan(0.4)
    expect(total[1][2].cosine).toBeLessThan(-0.4)
  })

  test.each([
    ['one file', ['a.trit'], ['--method', 'ties']],
    ['no method', ['a.trit', 'b.trit'], []],
    ['an unknown method', ['a.trit', 'b.trit'], ['--method', 'mean']],
    ['too few weights', ['a.trit', 'b.trit'], ['--method', 'ties', '--weights', '1']],
    ['weights that are no numbers', ['a.trit', 'b.trit'], ['--method', 'ties', '--weights', '1,']],
    ['a density over 1', ['a.trit', 'b.trit'], ['--method', 'ties', '--density', '5']],
    ['density and dense', ['a.trit', 'b.trit'], ['--method', 'ties', '--density', '0.5', '--dense']],
    ['an unknown flag', ['a.trit', 'b.trit'], ['--method', 'ties', '--wat']],
  ])('is used wrongly with %s', async (_, files, flags) => {
    const { code, err } = await tritswap('merge', ...files.map(at), ...flags, '--out', at('wrong.trit'))
    expect(code).toBe(2)
    expect(err).not.toBe('')
  })

  test('leaves nothing behind when it fails', async () => {
    const before = await readdir(folder)
    for (const second of ['other.trit', 'missing.trit']) {
      const { code, err } = await tritswap(
        'merge',
        at('a.trit'),
        at(second),
        '--method',
        'average',
        '--out',
        at('fail.trit'),
      )
      expect(code).toBe(1)
      expect(err.split('\n')[0]).toMatch(/^Cannot /)
    }
    expect(await readdir(folder)).toEqual(before)
  })
})

describe('tritswap compare', () => {
  test('prints a table for every measure', async () => {
    const { code, out } = await tritswap('compare', at('a.trit'), at('b.trit'), '--tensors')
    expect(code).toBe(0)
    for (const measure of ['cosine', 'overlap', 'agreement', 'dot', 'L1', 'sign L1', 'w: cosine']) {
      expect(out).toMatch(new RegExp(`^${measure} +a +b$`, 'm'))
    }
  })

  test('exits with 2 for wrong use and 1 for a bad file', async () => {
    await writeFile(at('bad.txt'), 'not an expert')
    expect((await tritswap('compare', at('a.trit'))).code).toBe(2)
    expect((await tritswap('compare', at('a.trit'), at('bad.txt'))).code).toBe(1)
    await rm(at('bad.txt'))
  })
})
