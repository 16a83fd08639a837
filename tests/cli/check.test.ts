import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { safetensors } from '../compress/checkpoints.ts'

import { tritswap } from './in_process.ts'

const ZOO = '../shared/onnx-zoo'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tritswap-check-test-'))
})
afterAll(() => rm(folder, { recursive: true }))

const given = (model: string) => [
  '--model',
  `${ZOO}/${model}`,
  '--inputs',
  `${ZOO}/${model}/expected.safetensors`,
]

/** An adapter of the zoo as an expert; uncompressed unless rules say otherwise. */
async function expertOf(model: string, name: string, ...rules: string[]): Promise<string> {
  const out = join(folder, `${model}-${name}${rules.length}.trit`)
  const from =
    name === 'finetuned'
      ? ['--finetuned', `${ZOO}/${model}/finetuned`]
      : ['--adapter', `${ZOO}/${model}/adapters/${name}`]
  const how = rules.length > 0 ? rules : ['--dense', '*', '--dense-dtype', 'f32']
  const made = await tritswap(
    'compress',
    '--base',
    `${ZOO}/${model}`,
    ...from,
    ...how,
    '--force',
    '--threads',
    '1',
    '--out',
    out,
  )
  expect(made).toMatchObject({ code: 0 })
  return out
}

const COMPRESSED = ['--rule', 'published', '--threshold', 'tensor', '--density', '0.2', '--alpha', '2']

describe('an expert gives torch’s outputs', () => {
  test.each([
    ['llama-tiny', 'lora_modules_to_save'],
    ['qwen2-tiny', 'lora_bias'],
    ['gpt2-tiny', 'ia3'],
    ['bert-tiny-classify', 'lora_all'],
    ['t5-tiny', 'ia3'],
    ['vit-tiny', 'lora_conv'],
  ])('%s with %s, merged and as inputs', async (model, name) => {
    const expert = await expertOf(model, name)
    for (const binding of ['merge', 'input']) {
      const { code, out } = await tritswap(
        'check',
        ...given(model),
        '--expert',
        expert,
        '--want',
        name,
        '--binding',
        binding,
      )
      expect(out).toMatch(new RegExp(`^base \\d\\.\\de-\\d\n${name} \\d\\.\\de-\\d\n$`))
      expect(code).toBe(0)
    }
  })

  test('the graphs of the onnxruntime-genai builder, with data in files beside them', async () => {
    const expert = await expertOf('qwen2-tiny', 'lora_bias')
    const genai = [...given('qwen2-tiny'), '--subfolder', 'onnx-genai', '--checkpoint', 'none']
    expect(await tritswap('check', ...genai, '--expert', expert, '--want', 'lora_bias')).toMatchObject({
      code: 0,
    })
  })

  test('beside weights that stay quantized, where a merge is refused', async () => {
    const expert = await expertOf('llama-tiny', 'finetuned', ...COMPRESSED)
    const q4 = [...given('llama-tiny'), '--dtype', 'q4', '--quantized', 'keep', '--want-base', 'base.q4']
    const wants = ['--expert', expert, '--want', 'finetuned.compeft.q4']
    expect(await tritswap('check', ...q4, ...wants, '--binding', 'side')).toMatchObject({ code: 0 })
    expect(await tritswap('check', ...q4, ...wants, '--binding', 'merge')).toMatchObject({
      code: 1,
      err: expect.stringContaining('its weights stay quantized: use another binding'),
    })
  })

  test('several at once, each with its weight', async () => {
    const expert = await expertOf('llama-tiny', 'lora')
    const twice = ['--expert', expert, '--expert', expert, '--want', 'lora', '--json']
    const halves = await tritswap(
      'check',
      ...given('llama-tiny'),
      ...twice,
      '--weight',
      '0.25',
      '--weight',
      '0.75',
    )
    expect(halves).toMatchObject({ code: 0, err: '' })
    const report = JSON.parse(halves.out)
    expect(report).toMatchObject({ graph: 'onnx/model.onnx', output: 'logits', right: true, tolerance: 1e-3 })
    expect(report.results.map(({ name }: { name: string }) => name)).toEqual(['base', 'lora'])
    expect(report.experts.map(({ weight }: { weight: number }) => weight)).toEqual([0.25, 0.75])
    expect(report.moved).toBeGreaterThan(0.1)
  })
})

describe('what is wrong is said, with exit code 1', () => {
  test('outputs of another expert', async () => {
    const expert = await expertOf('llama-tiny', 'lora')
    const wants = ['--expert', expert, '--want', 'ia3', '--want', 'lora']
    const { code, out, err } = await tritswap('check', ...given('llama-tiny'), ...wants)
    expect(code).toBe(1)
    expect(out).toMatch(/^base .*e-\d\nia3 .*e[-+][01]\nlora .*e-\d\n$/)
    expect(err).toMatch(/^ia3 is over the tolerance of 0.001$/m)
  })

  test('an expert of another base, before anything is bound', async () => {
    const expert = await expertOf('qwen2-tiny', 'lora')
    expect(
      await tritswap('check', ...given('llama-tiny'), '--expert', expert, '--want', 'lora'),
    ).toMatchObject({
      code: 1,
      out: '',
      err: expect.stringContaining('it was made for the checkpoint'),
    })
  })

  test('a tensor or an output that is not there, inputs that are missing', async () => {
    const check = (...argv: string[]) => tritswap('check', ...given('llama-tiny'), ...argv)
    expect(await check('--want', 'poet')).toMatchObject({
      code: 1,
      err: expect.stringContaining('has no such tensor, it has'),
    })
    expect(await check('--output', 'probabilities')).toMatchObject({
      code: 1,
      err: expect.stringContaining('Cannot find the output probabilities: onnx/model.onnx has logits'),
    })
    const inputs = join(folder, 'empty.safetensors')
    await writeFile(inputs, safetensors({ base: { shape: [1, 2], values: [1, 2] } }))
    expect(await tritswap('check', '--model', `${ZOO}/vit-tiny`, '--inputs', inputs)).toMatchObject({
      code: 1,
      err: expect.stringContaining('onnx/model.onnx needs pixel_values'),
    })
  })

  test.each([
    [['--expert', 'x.trit'], 'expected --want'],
    [['--binding', 'beside'], 'Allowed choices are auto, merge, side, input'],
    [['--tolerance', 'small'], 'Cannot use --tolerance small'],
    [['--dtype', 'q2'], 'Allowed choices are fp32, fp16'],
  ])('%j is wrong usage', async (argv, why) => {
    expect(await tritswap('check', ...given('llama-tiny'), ...argv)).toMatchObject({
      code: 2,
      err: expect.stringContaining(why),
    })
  })
})

test('a prepared folder is taken as it is, and nothing is written into it', async () => {
  const model = join(folder, 'prepared')
  const quantized = ['--dtype', 'q4', '--quantized', 'keep']
  await tritswap('prepare', `${ZOO}/llama-tiny`, '--out', model, ...quantized)
  const before = await readdir(model, { recursive: true })
  const check = [
    'check',
    '--model',
    model,
    '--inputs',
    `${ZOO}/llama-tiny/expected.safetensors`,
    '--want',
    'base.q4',
  ]
  expect(await tritswap(...check)).toMatchObject({ code: 0, out: expect.stringMatching(/^base\.q4 /) })
  expect(await tritswap(...check, ...quantized)).toMatchObject({ code: 0 })
  expect(await tritswap(...check, '--quantized', 'float')).toMatchObject({
    code: 1,
    err: expect.stringContaining('it was prepared with keep'),
  })
  expect(await tritswap(...check, '--dtype', 'fp32')).toMatchObject({ code: 1 })
  expect(await readdir(model, { recursive: true })).toEqual(before)
})

test('a folder prepared in two dtypes takes a bypass in the graph that is run', async () => {
  const model = join(folder, 'two-dtypes')
  await tritswap('prepare', `${ZOO}/llama-tiny`, '--out', model, '--dtype', 'fp32,fp16')
  const expert = await expertOf('llama-tiny', 'finetuned', ...COMPRESSED)
  const inputs = ['--model', model, '--inputs', `${ZOO}/llama-tiny/expected.safetensors`]
  const wants = ['--expert', expert, '--want', 'finetuned.compeft']
  for (const binding of ['merge', 'side'])
    expect(await tritswap('check', ...inputs, ...wants, '--binding', binding)).toMatchObject({ code: 0 })
})

test('a folder that is not prepared stays as it is', async () => {
  const model = join(folder, 'model')
  await cp(`${ZOO}/bert-tiny-classify`, model, { recursive: true })
  const before = await readdir(model, { recursive: true })
  const config = await readFile(join(model, 'config.json'))
  const { code } = await tritswap('check', '--model', model, '--inputs', join(model, 'expected.safetensors'))
  expect(code).toBe(0)
  expect(await readdir(model, { recursive: true })).toEqual(before)
  expect(await readFile(join(model, 'config.json'))).toEqual(config)
})
