import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import { LARGE_CHANGE } from '../../src/cli/defaults.ts'
import { heavyTailed, safetensors, type Values, zeros } from '../compress/checkpoints.ts'
import { tritswap } from './in_process.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tritswap-usage-'))
  return () => rm(folder, { recursive: true })
})
const at = (name: string) => join(folder, name)

/** A base and a fine-tuning of it; compressing them takes no time. */
async function writePair(changed: Record<string, Values> = {}): Promise<string[]> {
  const w: Values = { shape: [64, 64], values: heavyTailed(4096, 1) }
  const moved = {
    shape: [64, 64],
    values: heavyTailed(4096, 1).map((value, i) => value + (i % 7 === 0 ? 1e-3 : 0)),
  }
  await writeFile(at('b.safetensors'), safetensors({ w, v: zeros([32, 32]) }))
  await writeFile(at('f.safetensors'), safetensors({ w: moved, v: zeros([32, 32]), ...changed }))
  return ['compress', '--base', at('b.safetensors'), '--finetuned', at('f.safetensors'), '--threads', '1']
}

describe('a typo is met with what was meant', () => {
  test.each([
    [['compres'], 'Did you mean compress?'],
    [['compress', '--finetund', 'x', '--out', 'y'], 'Did you mean --finetuned?'],
    [['prepare', 'x', '--quantised', 'keep', '--out', 'y'], 'Did you mean --quantized?'],
    [['compress', '--scale', 'men', '--out', 'y'], 'unbiased, std, mean'],
    [['verify'], "missing required argument 'file.trit'"],
    [['inspect', 'a', 'b'], 'too many arguments'],
    [['compress', '--base', 'x', '--finetuned', 'y'], '--out <file.trit>'],
  ])('%j', async (argv, said) => {
    const { code, err } = await tritswap(...argv)
    expect(code).toBe(2)
    expect(err).toContain(said)
    if (argv.length > 1) expect(err).toContain(`Run tritswap ${argv[0]} --help`)
  })
})

test.each(['--version', '-V'])('%s', async (flag) => {
  expect(await tritswap(flag)).toEqual({ code: 0, out: '0.0.0\n', err: '' })
})

test('help of a command, by either way', async () => {
  const { out } = await tritswap('merge', '--help')
  expect(out).toContain('Examples:\n  $ tritswap merge')
  expect(await tritswap('help', 'merge')).toEqual({ code: 0, out, err: '' })
})

describe('completion', () => {
  test.each(['bash', 'zsh', 'fish', 'powershell'])('a script for %s', async (shell) => {
    const { code, out } = await completed(shell)
    expect(code).toBe(0)
    expect(out).toContain('tritswap')
  })

  test.each([
    [
      ['--', 'comp'],
      ['compress', 'compare'],
    ],
    [
      ['--', 'compress', '--thr'],
      ['--threads', '--threshold'],
    ],
    [
      ['--', 'merge', '--method', ''],
      ['average', 'task-arithmetic', 'ties'],
    ],
  ])('%j', async (words, offered) => {
    const { out } = await completed(...words)
    for (const word of offered) expect(out).toMatch(new RegExp(`^${word}\\b`, 'm'))
  })

  /** The library prints by console.log. */
  async function completed(...words: string[]) {
    const lines: string[] = []
    const log = console.log
    console.log = (line: unknown) => lines.push(String(line))
    try {
      const { code } = await tritswap('complete', ...words)
      return { code, out: lines.join('\n') }
    } finally {
      console.log = log
    }
  }
})

describe('numbers', () => {
  test('5% is 0.05', async () => {
    const pair = await writePair()
    const files = []
    for (const density of ['5%', '0.05', '5 %']) {
      expect(await tritswap(...pair, '--density', density, '--out', at('x.trit'), '--force')).toMatchObject({
        code: 0,
      })
      files.push((await readFile(at('x.trit'))).toString('hex'))
    }
    expect(new Set(files).size).toBe(1)
    const { code, out } = await tritswap(
      'sweep',
      ...pair.slice(1),
      '--densities',
      '5%,0.1',
      '--alphas',
      '1',
      '--json',
    )
    expect(code).toBe(0)
    expect(JSON.parse(out).points.map(({ density }: { density: number }) => density)).toEqual([0.05, 0.1])
    const override = ['--override', 'w:density=10%', '--out', at('o.trit'), '--json']
    expect(JSON.parse((await tritswap(...pair, ...override)).out).tensors[0].density).toBeCloseTo(0.1, 3)
  })

  test.each([
    ['5', '5 % is 5%'],
    ['500%', 'such as 0.05 or 5%'],
    ['-1', 'such as 0.05 or 5%'],
    ['x%', 'a number before %'],
    ['', 'expected a number'],
  ])('%s is no density', async (density, said) => {
    const { code, err } = await tritswap(...(await writePair()), '--density', density, '--out', at('x.trit'))
    expect(code).toBe(2)
    expect(err).toContain(said)
  })
})

describe('what is there is not written over without --force', () => {
  test('files', async () => {
    const pair = await writePair()
    const make = [...pair, '--out', at('x.trit')]
    expect(await tritswap(...make)).toMatchObject({ code: 0 })
    const first = await readFile(at('x.trit'))
    const other = [...make, '--label', 'Other']
    expect(await tritswap(...other)).toMatchObject({ code: 1, err: expect.stringContaining('give --force') })
    expect(await readFile(at('x.trit'))).toEqual(first)
    expect(await tritswap(...other, '--force')).toMatchObject({ code: 0 })
    expect(await readFile(at('x.trit'))).not.toEqual(first)

    const decode = ['decode', at('x.trit'), '--out', at('b.safetensors')]
    expect(await tritswap(...decode)).toMatchObject({ code: 1, err: expect.stringContaining('give --force') })
    const merge = ['merge', at('x.trit'), at('x.trit'), '--method', 'average', '--out', at('x.trit')]
    expect(await tritswap(...merge)).toMatchObject({ code: 1, err: expect.stringContaining('give --force') })
    const evaluate = ['eval', '--base', at('none'), '--chats', at('none'), '--json', at('x.trit')]
    expect(await tritswap(...evaluate)).toMatchObject({
      code: 1,
      err: expect.stringContaining('give --force'),
    })
    // Nothing makes a device a file.
    expect(await tritswap(...pair, '--out', '/dev/null', '--force')).toMatchObject({ code: 1 })
  })

  test('folders', async () => {
    await mkdir(at('full'))
    await writeFile(at('full/notes.txt'), 'mine')
    const prepare = ['prepare', at('none'), '--out']
    expect(await tritswap(...prepare, at('full'))).toMatchObject({
      code: 1,
      err: expect.stringContaining('--force'),
    })
    expect(await tritswap(...prepare, at('full/notes.txt'), '--force')).toMatchObject({
      code: 1,
      err: expect.stringContaining('expected a folder'),
    })
    expect(await tritswap(...prepare, at('empty'))).toMatchObject({
      code: 1,
      err: expect.stringContaining('none'),
    })
  })

  test('a registry is brought up to date, and what is no registry stays', async () => {
    await tritswap(...(await writePair()), '--out', at('x.trit'))
    for (let time = 0; time < 2; time++)
      expect(await tritswap('registry', 'build', folder)).toMatchObject({ code: 0 })
    await writeFile(at('notes.json'), '{"mine":1}')
    expect(await tritswap('registry', 'build', folder, '--out', at('notes.json'))).toMatchObject({ code: 1 })
    expect(await readFile(at('notes.json'), 'utf8')).toBe('{"mine":1}')
  })
})

describe('files where folders are expected, and the other way round', () => {
  test('--out takes a folder, and makes one that ends in a slash', async () => {
    const pair = await writePair()
    expect(await tritswap(...pair, '--out', `${at('made/here')}/`)).toMatchObject({ code: 0 })
    expect(await tritswap('verify', at('made/here/f.trit'))).toMatchObject({ code: 0 })
    expect(await tritswap('decode', at('made/here/f.trit'), '--out', at('made'))).toMatchObject({ code: 0 })
    expect((await readFile(at('made/f.safetensors'))).length).toBeGreaterThan(0)
  })

  test("an adapter's weights stand for its folder", async () => {
    const lora = join(import.meta.dirname, '../../../shared/demo-model/lora/holmes')
    await cp(lora, at('lora'), { recursive: true })
    const argv = ['compress', '--threads', '1', '--out', at('x.trit'), '--adapter']
    expect(await tritswap(...argv, at('lora/adapter_model.safetensors'))).toMatchObject({ code: 0 })
    await writePair()
    expect(await tritswap(...argv, at('b.safetensors'), '--force')).toMatchObject({
      code: 1,
      err: expect.stringContaining('expected adapter_config.json and adapter_model.safetensors in it'),
    })
  })

  test('what no folder can be made of is explained', async () => {
    await writePair()
    expect(await tritswap('prepare', at('b.safetensors'), '--out', at('out'))).toMatchObject({
      code: 1,
      err: expect.stringContaining('one of its graphs, such as onnx/model.onnx'),
    })
    expect(await tritswap('registry', 'build', at('b.safetensors'))).toMatchObject({
      code: 1,
      err: expect.stringContaining('it is a file; give the folder that it is in'),
    })
    expect(await tritswap('registry', 'build', 'hf:me/experts')).toMatchObject({
      code: 1,
      err: expect.stringContaining('a folder on this disk'),
    })
  })
})

describe('warnings', () => {
  test('a large change, with how large it is', async () => {
    const values = heavyTailed(4096, 1).map((value, i) => value + (i % 2 === 0 ? 1 : -1) * 0.5)
    const pair = await writePair({ w: { shape: [64, 64], values } })
    const { code, err } = await tritswap(...pair, '--out', at('x.trit'))
    expect(code).toBe(0)
    const [, percent] = /moved the weights by (\S+) % of their norm, .* and 5 % of the entries/.exec(err)!
    let [moved, whole] = [0, 0]
    for (const value of heavyTailed(4096, 1)) {
      moved += 0.25
      whole += value * value
    }
    expect(Number(percent) / 100).toBeGreaterThan(LARGE_CHANGE)
    // The norm of the base is that of a sample, which is all of a small tensor.
    expect(Number(percent) / (100 * Math.sqrt(moved / whole))).toBeCloseTo(1, 1)
    expect((await tritswap(...(await writePair()), '--out', at('small.trit'))).err).toBe('')
  })

  test('a tensor of which nothing is kept', async () => {
    const v = { shape: [32, 32], values: heavyTailed(1024, 3).map((value) => value * 1e-9) }
    const { err } = await tritswap(...(await writePair({ v })), '--rule', 'published', '--out', at('x.trit'))
    expect(err).toContain('nothing is kept of v: ')
    expect(err).toContain('--threshold tensor')
  })

  test('embeddings that an adapter saved unchanged, and one whose base nobody named', async () => {
    const embedding = { shape: [16, 8], values: heavyTailed(128, 2) }
    const base = { 'model.embed_tokens.weight': embedding, 'model.layers.0.q_proj.weight': zeros([8, 8]) }
    const factor = (shape: number[], seed: number) => ({ shape, values: heavyTailed(16, seed) })
    const factors = {
      'base_model.model.model.layers.0.q_proj.lora_A.weight': factor([2, 8], 4),
      'base_model.model.model.layers.0.q_proj.lora_B.weight': factor([8, 2], 5),
    }
    await mkdir(at('lora'))
    const config = { peft_type: 'LORA', r: 2, lora_alpha: 2, target_modules: ['q_proj'] }
    await writeFile(
      at('lora/adapter_config.json'),
      JSON.stringify({ ...config, base_model_name_or_path: 'someone/base' }),
    )
    const adapter = at('lora/adapter_model.safetensors')
    await writeFile(at('base.safetensors'), safetensors(base))
    await writeFile(
      adapter,
      safetensors({ ...factors, 'base_model.model.model.embed_tokens.weight': embedding }),
    )
    const argv = ['compress', '--threads', '1', '--adapter', at('lora'), '--force', '--out', at('x.trit')]
    const saved = await tritswap(...argv, '--base', at('base.safetensors'))
    expect(saved).toMatchObject({ code: 0, err: expect.stringContaining('save_embedding_layers=False') })
    expect(saved.err).not.toContain('--base')
    await writeFile(adapter, safetensors(factors))
    expect(await tritswap(...argv)).toMatchObject({
      code: 0,
      err: expect.stringContaining('give it, such as --base hf:someone/base'),
    })
  })
})
