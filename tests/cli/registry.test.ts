import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { buildRegistry } from '../../src/cli/registry.ts'
import { parseRegistry } from '../../src/source/registry.ts'
import { tritFile } from '../fetcher/trit_file.ts'
import { tritswap } from './in_process.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tritswap-registry-'))
})
afterEach(async () => {
  await rm(folder, { recursive: true })
})

const out = () => readFile(join(folder, 'experts.json'), 'utf8')

describe('tritswap registry build', () => {
  test('lists what is there, and is read by our own reader', async () => {
    const one = await tritFile()
    const two = await tritFile({ seed: 2 })
    await mkdir(join(folder, 'more'))
    await writeFile(join(folder, 'b one.trit'), one.bytes)
    await writeFile(join(folder, 'more/two.trit'), two.bytes)
    await writeFile(join(folder, 'base.trit'), (await tritFile({ kind: 'base' })).bytes)
    await writeFile(join(folder, 'notes.txt'), 'nothing')
    expect(await tritswap('registry', 'build', folder)).toMatchObject({ code: 0, err: '' })
    const { base, experts } = parseRegistry(await out())
    expect(base).toBeUndefined()
    expect(
      experts.map(({ id, url, bytes, rootHash, label, replaces }) => ({
        id,
        url,
        bytes,
        rootHash,
        label,
        replaces,
      })),
    ).toEqual([
      {
        id: 'b-one',
        url: 'b%20one.trit',
        bytes: one.bytes.length,
        rootHash: one.head.rootHash,
        label: 'Test',
        replaces: { f16Delta: 180_000 },
      },
      {
        id: 'two',
        url: 'more/two.trit',
        bytes: two.bytes.length,
        rootHash: two.head.rootHash,
        label: 'Test',
        replaces: { f16Delta: 180_000 },
      },
    ])
  })

  test('keeps what was written by hand, but no figures of another file', async () => {
    await writeFile(join(folder, 'a.trit'), (await tritFile()).bytes)
    await writeFile(join(folder, 'z.trit'), (await tritFile({ seed: 2 })).bytes)
    await tritswap('registry', 'build', folder)
    const registry = parseRegistry(await out())
    registry.experts.reverse()
    const quality = { gainKept: 0.9, agreement: 0.9, kl: 0.1 }
    const [samples, scores] = [['Ask'], { base: 0, expert: 0.9, n: 100 }]
    for (const expert of registry.experts)
      Object.assign(expert, { label: `My ${expert.id}`, quality, samples, scores })
    registry.experts[0].id = 'renamed'
    await writeFile(join(folder, 'experts.json'), JSON.stringify(registry))
    await writeFile(join(folder, 'a.trit'), (await tritFile({ seed: 3 })).bytes)
    await writeFile(join(folder, 'new.trit'), (await tritFile({ seed: 4 })).bytes)

    await tritswap('registry', 'build', folder)
    const { experts } = parseRegistry(await out())
    expect(experts.slice(0, 2).map((entry) => entry.samples)).toEqual([samples, samples])
    expect(
      experts.map(({ scores, quality }) => (scores !== undefined) === (quality !== undefined)),
    ).not.toContain(false)
    expect(experts.map(({ id, label, quality }) => [id, label, quality !== undefined])).toEqual([
      ['renamed', 'My z', true],
      ['a', 'My a', false],
      ['new', 'Test', false],
    ])
    expect(experts[1].rootHash).toBe((await tritFile({ seed: 3 })).head.rootHash)
  })

  test('gives the same bytes each time', async () => {
    await writeFile(join(folder, 'a.trit'), (await tritFile()).bytes)
    await tritswap('registry', 'build', folder)
    const first = await out()
    await tritswap('registry', 'build', folder)
    expect(await out()).toBe(first)
  })

  test('refuses an empty folder, a truncated file and a wrong command line', async () => {
    await expect(buildRegistry(folder)).rejects.toMatchObject({ tag: 'input' })
    await writeFile(join(folder, 'a.trit'), (await tritFile()).bytes.slice(0, -5))
    await expect(buildRegistry(folder)).rejects.toMatchObject({ tag: 'format' })
    expect(await tritswap('registry', 'bild', folder)).toMatchObject({
      code: 2,
      err: expect.stringContaining('Did you mean build?'),
    })
    expect(await tritswap('registry', 'build')).toMatchObject({ code: 2 })
  })
})
