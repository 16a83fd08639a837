import { describe, expect, test } from 'vitest'
import { openFolder } from '../../src/cli/file_source.ts'
import { adapterTaskVector } from '../../src/compress/adapter.ts'
import { openCheckpoint } from '../../src/compress/checkpoint.ts'
import { memorySource } from '../../src/source/memory.ts'
import { heavyTailed, memoryFolder, safetensors, type Values } from './checkpoints.ts'

const PATH = 'base_model.model.model.layers.0.q_proj'
const CONFIG = { peft_type: 'LORA', r: 2, lora_alpha: 4, target_modules: ['q_proj'] }
const FACTORS: Record<string, Values> = {
  [`${PATH}.lora_A.weight`]: { shape: [2, 6], values: heavyTailed(12, 1) },
  [`${PATH}.lora_B.weight`]: { shape: [4, 2], values: heavyTailed(8, 2) },
}

function adapter(config: object, tensors: Record<string, Values> = FACTORS) {
  return memoryFolder({
    'adapter_config.json': { ...CONFIG, ...config },
    'adapter_model.safetensors': safetensors(tensors),
  })
}

/** Why an adapter's first tensor that cannot be compressed cannot be. */
async function refusalOf(...[folder, base]: Parameters<typeof adapterTaskVector>) {
  const { tensors } = await adapterTaskVector(folder, base)
  return tensors.find(({ problem }) => problem !== undefined)?.problem
}

const base = (tensors: Record<string, Values>) => openCheckpoint(memorySource(safetensors(tensors), 'base'))
const Q = 'model.layers.0.q_proj.weight'

describe('the zoo of what is refused', () => {
  test.each([['refuse_pickle', /pickle.*executes.*safetensors/]])('%s', async (name, message) => {
    const folder = openFolder(`../shared/onnx-zoo/llama-tiny/adapters/${name}`)
    await expect(adapterTaskVector(folder)).rejects.toMatchObject({ tag: 'unsupported', message })
  })
})

describe('settings that change the meaning', () => {
  test.each([
    [{ use_qalora: true }, /QA-LoRA/],
    [{ layer_replication: [[0, 4]] }, /layer replication/],
    [{ target_parameters: ['experts.gate'] }, /target_parameters/],
    [{ init_lora_weights: 'pissa_niter_4' }, /pissa_niter_4.*path_initial_model_for_weight_conversion/],
    [{ init_lora_weights: 'corda' }, /corda.*path_initial_model_for_weight_conversion/],
    [{ a_field_of_the_future: { level: 1 } }, /a_field_of_the_future/],
    [{ peft_type: 'XLORA' }, /X-LoRA.*router/],
    [{ peft_type: 'POLY' }, /Poly.*skills/],
    [{ peft_type: undefined, config: { reduction_factor: 16 } }, /bottleneck adapters/],
    [{ peft_type: 'MULTITASK_PROMPT_TUNING' }, /multitask prompt tuning/],
    [{ peft_type: 'SOMETHING_NEW' }, /SOMETHING_NEW/],
  ])('%o is refused by name', async (config, message) => {
    await expect(adapterTaskVector(adapter(config))).rejects.toMatchObject({ tag: 'unsupported', message })
  })

  test('fields at a value that is off, and those of training, are accepted', async () => {
    const config = {
      a_field_of_the_future: null,
      another: false,
      list: [],
      use_dora: false,
      lora_dropout: 0.1,
      init_lora_weights: 'gaussian',
    }
    expect((await adapterTaskVector(adapter(config))).tensors).toHaveLength(2)
  })

  test('tensors of another method are refused though the configuration is silent', async () => {
    const other = { [`${PATH}.lokr_w1`]: { shape: [2, 2], values: [1, 1, 1, 1] } }
    await expect(adapterTaskVector(adapter({}, { ...FACTORS, ...other }))).rejects.toMatchObject({
      tag: 'unsupported',
      message: /LoKr/,
    })
  })
})

describe('factors', () => {
  test.each([
    ['the last part of the path', { q_proj: 8 }, 8 / 2],
    ['the end of the path after a dot', { 'layers.0.q_proj': 6 }, 6 / 2],
    ['a regular expression', { 'layers\\.\\d+\\..*': 10 }, 10 / 2],
    ['an anchored one', { '^model.layers.0.q_proj': 12 }, 12 / 2],
    ['nothing that is only a part of a name', { roj: 99, 'model.layers': 99 }, 4 / 2],
  ] as const)('alpha_pattern matches %s', async (_, alpha_pattern, scaling) => {
    const { tensors } = await adapterTaskVector(adapter({ alpha_pattern }))
    expect(tensors.map((tensor) => tensor.scaling)).toEqual([undefined, scaling])
  })

  test('a rank other than the configuration says is refused', async () => {
    expect(await refusalOf(adapter({ r: 4 }))).toMatchObject({
      tag: 'input',
      message: /rank 4.*\[2,6\]/,
    })
    expect((await adapterTaskVector(adapter({ r: 4, rank_pattern: { q_proj: 2 } }))).tensors).toHaveLength(2)
  })

  test('a factor without its other half is refused', async () => {
    const { [`${PATH}.lora_A.weight`]: a } = FACTORS
    expect(await refusalOf(adapter({}, { [`${PATH}.lora_A.weight`]: a }))).toMatchObject({
      message: /lora_B/,
    })
  })

  test('the base tells Conv1D from linear, and is checked', async () => {
    const tensorIn = async (shape: number[]) =>
      (
        await adapterTaskVector(
          adapter({ fan_in_fan_out: true }),
          await base({ [Q]: { shape, values: heavyTailed(24, 3) } }),
        )
      ).tensors[0]
    expect((await tensorIn([6, 4])).layout).toBe('conv1d')
    expect((await tensorIn([4, 6])).layout).toBe('linear')
    expect((await tensorIn([3, 8])).problem).toMatchObject({ tag: 'base' })
    expect(await refusalOf(adapter({}), await base({ other: { shape: [1], values: [1] } }))).toMatchObject({
      tag: 'base',
      message: /q_proj/,
    })
  })

  test('grouped convolutions are refused', async () => {
    const grouped = {
      [`${PATH}.lora_A.weight`]: { shape: [2, 3, 3, 3], values: heavyTailed(54, 1) },
      [`${PATH}.lora_B.weight`]: { shape: [4, 1, 1, 1], values: heavyTailed(4, 2) },
    }
    expect(await refusalOf(adapter({}, grouped))).toMatchObject({
      tag: 'unsupported',
      message: /grouped/,
    })
  })
})

describe('whole tensors', () => {
  const norm = { 'base_model.model.norm.weight': { shape: [3], values: [1, 2, 3] } }

  test('need the base, and say so', async () => {
    expect(await refusalOf(adapter({}, { ...FACTORS, ...norm }))).toMatchObject({
      tag: 'input',
      message: /--base/,
    })
  })

  test("peft's unused copies are left out, and said to be", async () => {
    const weights = {
      [Q]: { shape: [4, 6], values: heavyTailed(24, 3) },
      'norm.weight': { shape: [3], values: [1, 1, 1] },
    }
    const copies = {
      'base_model.model.norm.original_module.weight': { shape: [3], values: [1, 1, 1] },
      'base_model.model.norm.modules_to_save.weight': { shape: [3], values: [1, 2, 3] },
    }
    const { tensors, notes } = await adapterTaskVector(
      adapter({}, { ...FACTORS, ...norm, ...copies }),
      await base(weights),
    )
    expect(tensors.map(({ role, target }) => [role, target])).toEqual([
      ['loraA', Q],
      ['loraB', Q],
      ['delta', 'norm.weight'],
    ])
    expect(notes).toHaveLength(2)
  })
})

describe('what lies below the factors of an output layer', () => {
  const EMBEDDING = 'model.embed_tokens.weight'
  const values = Array.from(heavyTailed(24, 3))
  const factors = (below: number[]) => ({
    'base_model.model.lm_head.lora_A.weight': { shape: [2, 6], values: heavyTailed(12, 1) },
    'base_model.model.lm_head.lora_B.weight': { shape: [4, 2], values: heavyTailed(8, 2) },
    'base_model.model.lm_head.base_layer.weight': { shape: [4, 6], values: below },
  })

  test('is left out as the copy of a tied embedding that it is', async () => {
    const tied = await base({ [EMBEDDING]: { shape: [4, 6], values } })
    const { tensors, notes } = await adapterTaskVector(adapter({}, factors(values)), tied)
    expect(tensors.map(({ role }) => role)).toEqual(['loraA', 'loraB'])
    expect(notes).toContainEqual(expect.stringMatching(/base_layer\.weight: a copy/))
  })

  test('is refused where the base has no such values', async () => {
    const tied = await base({ [EMBEDDING]: { shape: [4, 6], values } })
    const other = values.map((value) => value + 1)
    expect(await refusalOf(adapter({}, factors(other)), tied)).toMatchObject({ tag: 'base' })
  })
})

test('folders without an adapter are refused', async () => {
  await expect(adapterTaskVector(memoryFolder({}))).rejects.toMatchObject({
    tag: 'input',
    message: /adapter_config\.json/,
  })
  await expect(adapterTaskVector(memoryFolder({ 'adapter_config.json': CONFIG }))).rejects.toMatchObject({
    tag: 'input',
    message: /adapter_model\.safetensors/,
  })
})
