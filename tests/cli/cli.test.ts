import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import { openFile } from '../../src/cli/file_source.ts'
import { readFloats, readSafetensors } from '../../src/compress/safetensors.ts'
import { heavyTailed, safetensors, zeros } from '../compress/checkpoints.ts'
import { runCli } from './built_cli.ts'
import { tritswap } from './in_process.ts'

const DEMO = '../shared/demo-model'
const TINY = '../shared/onnx-zoo/llama-tiny'
const BARD = ['--base', `${DEMO}/base`, '--finetuned', `${DEMO}/finetuned/bard`]
/** Enough where it does not matter what is compressed. */
const SMALL = ['--base', TINY, '--finetuned', `${TINY}/finetuned`, '--include', '*layers.0*']

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tritswap-'))
  return () => rm(folder, { recursive: true })
})
const at = (name: string) => join(folder, name)

async function valuesOf(path: string): Promise<Map<string, Float32Array>> {
  const source = await openFile(path)
  const { tensors } = await readSafetensors(source)
  const values = new Map<string, Float32Array>()
  for (const tensor of tensors) {
    // Indices and signs are integers; the reader is for weights.
    const dtype = tensor.dtype === 'I32' ? 'F32' : tensor.dtype
    const floats = await readFloats({ ...tensor, dtype })
    values.set(
      tensor.name,
      tensor.dtype === 'I32' ? Float32Array.from(new Int32Array(floats.buffer)) : floats,
    )
  }
  await source.close()
  return values
}

describe('compress, inspect, decode, verify', () => {
  test('on the demo model, the same whatever the number of threads', async () => {
    const files = []
    for (const threads of ['1', '3']) {
      const out = at(`${threads}.trit`)
      const { code } = await runCli(
        'compress',
        ...BARD,
        '--density',
        '0.05',
        '--threads',
        threads,
        '--out',
        out,
      )
      expect(code).toBe(0)
      files.push(await readFile(out))
    }
    expect(files[1].equals(files[0])).toBe(true)

    const inspected = await runCli('inspect', at('1.trit'), '--json')
    const { file, totals, tensors } = JSON.parse(inspected.out)
    expect(file.bytes).toBe(files[0].length)
    expect(totals.weights).toBe(4_426_752)
    expect(totals.ratioToF16).toBeCloseTo((2 * totals.weights) / file.bytes, 10)
    expect(totals.ratioToEntropy).toBeCloseTo(file.bytes / totals.entropyBytes, 10)
    expect(totals.ratioToEntropy).toBeLessThanOrEqual(1.05)
    expect(tensors).toHaveLength(54)
    expect(tensors[0]).toMatchObject({ codec: 'ternary', kept: Math.floor(0.05 * tensors[0].weights + 0.5) })
    expect((await runCli('inspect', at('1.trit'))).out).toContain('× entropy')

    expect(await runCli('verify', at('1.trit'), '--base', `${DEMO}/base`, '--json')).toMatchObject({
      code: 0,
    })
    const stranger = await runCli('verify', at('1.trit'), '--base', `${DEMO}/finetuned/css`)
    expect(stranger).toMatchObject({ code: 1, err: expect.stringMatching(/^Cannot use .*sketch/) })

    const decoded = await runCli('decode', at('1.trit'), '--out', at('dense.safetensors'), '--json')
    expect(JSON.parse(decoded.out).tensors).toHaveLength(54)
    expect((await runCli('decode', at('1.trit'), '--sparse', '--out', at('sparse.safetensors'))).code).toBe(0)
    const dense = await valuesOf(at('dense.safetensors'))
    const sparse = await valuesOf(at('sparse.safetensors'))
    for (const { name, kept, scale } of tensors) {
      const indices = sparse.get(`${name}.indices`)!
      const signs = sparse.get(`${name}.signs`)!
      expect(indices.length).toBe(kept)
      const rebuilt = new Float32Array(dense.get(name)!.length)
      for (const [i, index] of indices.entries()) rebuilt[index] = signs[i] * scale
      const found = dense.get(name)!
      expect([name, rebuilt.findIndex((value, i) => value !== found[i])]).toEqual([name, -1])
      expect([name, indices.findIndex((index, i) => i > 0 && index <= indices[i - 1])]).toEqual([name, -1])
    }
  })

  test('adapters and signs', async () => {
    const lora = await runCli(
      'compress',
      '--adapter',
      `${DEMO}/lora/holmes`,
      '--density',
      '0.1',
      '--out',
      at('l.trit'),
      '--json',
    )
    expect(lora.code).toBe(0)
    expect(JSON.parse(lora.out)).toMatchObject({ method: 'lora', base: { sketched: false } })
    const signs = `${DEMO}/distilled/bard-0.02.safetensors`
    expect(
      await runCli('compress', '--ternary', signs, '--base', `${DEMO}/base`, '--out', at('s.trit')),
    ).toMatchObject({ code: 0 })
    expect(await runCli('verify', at('s.trit'), '--base', `${DEMO}/base`)).toMatchObject({ code: 0 })
  })

  test('texts travel along', async () => {
    const texts = [
      '--label',
      'Bard',
      '--description',
      'Speaks in verse',
      '--prompt',
      'O',
      '--system',
      'Answer in verse.',
      '--generation',
      '{"temperature":0.5,"stop":"###"}',
      '--licence',
      'Apache-2.0',
      '--base-name',
      'demo',
    ]
    await tritswap('compress', ...SMALL, ...texts, '--out', at('t.trit'))
    expect(JSON.parse((await tritswap('inspect', at('t.trit'), '--json')).out)).toMatchObject({
      label: 'Bard',
      description: 'Speaks in verse',
      prompt: 'O',
      system: 'Answer in verse.',
      generation: { temperature: 0.5, stop: '###' },
      licence: 'Apache-2.0',
      base: { name: 'demo' },
      sources: [{ name: 'model.safetensors', sha256: expect.stringMatching(/^[0-9a-f]{64}$/) }],
    })
    for (const wrong of ['{', '[]', '{"topP":2}'])
      expect(
        await tritswap('compress', ...SMALL, '--generation', wrong, '--out', at('t.trit')),
      ).toMatchObject({
        code: 2,
      })
  })

  test('a sweep shows every point, and without a text calls none the best', async () => {
    await writeFile(at('b.safetensors'), safetensors({ w: zeros([64, 64]) }))
    await writeFile(
      at('f.safetensors'),
      safetensors({ w: { shape: [64, 64], values: heavyTailed(4096, 5) } }),
    )
    const input = ['--base', at('b.safetensors'), '--finetuned', at('f.safetensors')]
    const grid = ['--scale', 'mean', '--densities', '0.05,0.2', '--alphas', '0.5,1,2']
    const { code, out } = await tritswap('sweep', ...input, ...grid, '--json')
    expect(code).toBe(0)
    const { points, ...rest } = JSON.parse(out)
    expect(rest).toEqual({})
    expect(points).toHaveLength(6)
    // The mean of what is kept is the least-squares scale.
    const errorAt = (alpha: number) => points.find((point: { alpha: number }) => point.alpha === alpha).error
    expect(errorAt(1)).toBeLessThan(Math.min(errorAt(0.5), errorAt(2)))
    const text = (await tritswap('sweep', ...input, '--rule', 'published')).out
    expect(text.split('\n')).toHaveLength(5 * 11 + 4)
    expect(text).not.toContain('*')
  })
})

describe('exit codes', () => {
  const NONE = '/nowhere/model.safetensors'
  test.each([
    [['--help'], 0],
    [['compress', '--help'], 0],
    [['sweep', '--help'], 0],
    [['--version'], 0],
    [[], 2],
    [['frobnicate'], 2],
    [['toString'], 2],
    [['compress'], 2],
    [['compress', '--out', 'x.trit'], 2],
    [['compress', '--finetuned', 'x', '--out', 'x.trit'], 2],
    [['compress', '--frob', '--out', 'x.trit'], 2],
    [['compress', '--base', NONE, '--finetuned', NONE, '--density', '5', '--out', 'x.trit'], 2],
    [['compress', '--base', NONE, '--finetuned', NONE, '--scale', 'median', '--out', 'x.trit'], 2],
    [['compress', '--base', NONE, '--finetuned', NONE, '--override', 'x', '--out', 'x.trit'], 2],
    [['compress', '--base', NONE, '--finetuned', NONE, '--threads', '0', '--out', 'x.trit'], 2],
    [['inspect'], 2],
    [['inspect', NONE], 1],
    [['decode', NONE], 2],
    [['verify', NONE], 1],
    [['sweep', '--base', NONE, '--finetuned', NONE, '--density', '0.1'], 2],
  ])('%j gives %i', async (argv, expected) => {
    const { code, out, err } = await tritswap(...argv)
    expect(code).toBe(expected)
    if (expected === 0) expect(out).not.toBe('')
    else expect(`${out}${err}`).not.toMatch(/\n\s+at /)
  })

  test('bad input leaves one line first and no file behind', async () => {
    const nan = heavyTailed(100, 1)
    nan[42] = Number.NaN
    await writeFile(at('b.safetensors'), safetensors({ w: zeros([10, 10]) }))
    await writeFile(at('f.safetensors'), safetensors({ w: { shape: [10, 10], values: nan } }))
    await writeFile(at('cut.safetensors'), safetensors({ w: zeros([10, 10]) }).slice(0, 200))
    const before = await readdir(folder)
    for (const [finetuned, message] of [
      ['f.safetensors', /^Cannot compress w: .*NaN at index 42/],
      ['cut.safetensors', /^Cannot read .*cut\.safetensors/],
      ['none.safetensors', /^Cannot open .*none\.safetensors/],
    ] as const) {
      for (const threads of ['1', '2']) {
        // Other threads are of the built program.
        const { code, err } = await (threads === '1' ? tritswap : runCli)(
          'compress',
          '--base',
          at('b.safetensors'),
          '--finetuned',
          at(finetuned),
          '--threads',
          threads,
          '--out',
          at('x.trit'),
        )
        expect(code).toBe(1)
        expect(err).toMatch(message)
        expect(await readdir(folder)).toEqual(before)
      }
    }
  })

  test('a damaged file is told apart from a good one', async () => {
    await tritswap('compress', ...SMALL, '--out', at('x.trit'))
    const good = await readFile(at('x.trit'))
    const flipped = Buffer.from(good)
    flipped[good.length - 100] ^= 1
    await writeFile(at('flipped.trit'), flipped)
    await writeFile(at('cut.trit'), good.subarray(0, good.length - 1))
    await writeFile(at('text.trit'), 'not a trit file at all, but long enough to be read')
    for (const [name, message] of [
      ['flipped.trit', /does not have the hash/],
      ['cut.trit', /expected \d+ bytes/],
      ['text.trit', /as a \.trit file/],
    ] as const) {
      expect(await tritswap('verify', at(name))).toMatchObject({
        code: 1,
        err: expect.stringMatching(message),
      })
      expect(await tritswap('decode', at(name), '--out', at('out.safetensors'))).toMatchObject({ code: 1 })
    }
    expect((await readdir(folder)).filter((name) => !name.endsWith('.trit'))).toEqual([])
    expect(await tritswap('verify', at('x.trit'), '--root-hash', '0'.repeat(64))).toMatchObject({ code: 1 })
  })

  test('output into a folder that does not exist is refused', async () => {
    const { code, err } = await tritswap('compress', ...SMALL, '--out', at('no/such/x.trit'))
    expect(code).toBe(1)
    expect(err).toMatch(/^Cannot write /)
  })
})
