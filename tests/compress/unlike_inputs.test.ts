/** What people give by mistake, and what other tools write: each works, or says what it is and what to do. */
import { describe, expect, test } from 'vitest'
import { adapterTaskVector } from '../../src/compress/adapter.ts'
import { openCheckpoint, readJson } from '../../src/compress/checkpoint.ts'
import { compressTaskVector } from '../../src/compress/compress.ts'
import { fullTaskVector } from '../../src/compress/full.ts'
import type { RuleOptions } from '../../src/compress/rules.ts'
import { packTernary } from '../../src/compress/ternary_input.ts'
import { memorySpool } from '../../src/format/index.ts'
import { memorySource } from '../../src/source/memory.ts'
import { heavyTailed, memoryFolder, safetensors, type Values } from './checkpoints.ts'

const A: Values = { shape: [2, 6], values: heavyTailed(12, 1) }
const B: Values = { shape: [4, 2], values: heavyTailed(8, 2) }
const EMPTY: Values = { shape: [0], values: [] }
const Q = 'model.layers.0.q_proj.weight'
const WEIGHT: Values = { shape: [4, 6], values: heavyTailed(24, 3) }
const checkpoint = (tensors: Record<string, Values>, name = 'base') =>
  openCheckpoint(memorySource(safetensors(tensors), name))

function adapter(tensors: Record<string, Values>) {
  return memoryFolder({
    'adapter_config.json': { peft_type: 'LORA', r: 2, lora_alpha: 4 },
    'adapter_model.safetensors': safetensors(tensors),
  })
}

async function compressed(
  tensors: Record<string, Values>,
  base?: Record<string, Values>,
  options: RuleOptions = {},
) {
  const task = await adapterTaskVector(adapter(tensors), base && (await checkpoint(base)))
  await compressTaskVector(task, options, { spool: memorySpool() })
  return task.tensors.map(({ target }) => target)
}

describe('names of an adapter', () => {
  const pair = (module: string, suffix = '') => ({
    [`${module}.lora_A${suffix}.weight`]: A,
    [`${module}.lora_B${suffix}.weight`]: B,
  })
  test.each([
    ['as peft writes them', pair('base_model.model.model.layers.0.q_proj')],
    ['without the class that holds the model', pair('base_model.model.layers.0.q_proj')],
    ['without any prefix', pair('model.layers.0.q_proj')],
    ['of a compiled model', pair('base_model.model._orig_mod.model.layers.0.q_proj')],
    ['of a compiled layer', pair('base_model.model.model.layers.0._orig_mod.q_proj')],
    ['of a sharded model', pair('base_model.model._fsdp_wrapped_module.model.layers.0.q_proj')],
    ['of a model of text and images', pair('base_model.model.model.language_model.layers.0.q_proj')],
    ['the other way round', pair('base_model.model.language_model.model.layers.0.q_proj')],
    ['as tools that extract adapters write them', pair('base_model.model.model.layers.0.q_proj.weight')],
    ['with the name of the adapter', pair('base_model.model.model.layers.0.q_proj', '.default')],
  ])('%s', async (_, tensors) => {
    expect(await compressed(tensors, { [Q]: WEIGHT })).toEqual([Q, Q])
    await compressed(tensors)
  })

  test('that two weights could go by find none', async () => {
    const base = { 'text.layers.0.q_proj.weight': WEIGHT, 'vision.layers.0.q_proj.weight': WEIGHT }
    await expect(compressed(pair('base_model.model.layers.0.q_proj'), base)).rejects.toMatchObject({
      tag: 'base',
    })
  })

  test('of several adapters in one file are refused', async () => {
    const tensors = { ...pair('a.q_proj', '.default'), ...pair('a.k_proj', '.other') }
    await expect(compressed(tensors)).rejects.toThrow(/several adapters, default, other/)
  })

  test('of another kind of LoRA are refused, whatever is left out', async () => {
    const tensors = { ...pair('a.q_proj', '.default'), 'a.q_proj.lora_magnitude_vector.default.weight': B }
    await expect(compressed(tensors, undefined, { exclude: ['*magnitude*'] })).rejects.toThrow(/DoRA/)
  })

  test.each([
    ['a head that the base has not', { 'base_model.model.score.weight': B }, '*score*', /added in training/],
    [
      'a resized vocabulary',
      { 'base_model.model.model.embed_tokens.weight': { shape: [9, 6], values: heavyTailed(54, 4) } },
      '*embed*',
      /resized vocabulary/,
    ],
    [
      'half a pair',
      { 'base_model.model.model.layers.0.k_proj.lora_A.weight': A },
      '*k_proj*',
      /other factor/,
    ],
    [
      'a layer that the base has not',
      pair('base_model.model.model.layers.7.q_proj'),
      '*layers.7.*',
      /found none/,
    ],
  ])('%s is refused, and can be left out', async (_, extra, exclude, message) => {
    const tensors = { ...pair('base_model.model.model.layers.0.q_proj'), ...extra }
    const base = { [Q]: WEIGHT, 'model.embed_tokens.weight': { shape: [8, 6], values: heavyTailed(48, 5) } }
    await expect(compressed(tensors, base)).rejects.toMatchObject({ message })
    await expect(compressed(tensors, base)).rejects.toThrow(/--exclude|other factor/)
    await compressed(tensors, base, { exclude: [exclude] })
  })

  test('a copy that is left out can be named by --exclude', async () => {
    const embedding = { shape: [8, 6], values: heavyTailed(48, 5) }
    const tensors = {
      ...pair('base_model.model.model.layers.0.q_proj'),
      'base_model.model.lm_head.weight': embedding,
      'base_model.model.model.embed_tokens.weight': embedding,
    }
    const base = { [Q]: WEIGHT, 'model.embed_tokens.weight': embedding }
    await compressed(tensors, base)
    await compressed(tensors, base, { exclude: ['*lm_head*'] })
  })
})

describe('tensors without values', () => {
  const PATH = 'base_model.model.model.layers.0.q_proj'
  test.each([
    ['a pair', { [`${PATH}.lora_A.weight`]: EMPTY, [`${PATH}.lora_B.weight`]: EMPTY }],
    ['a factor', { [`${PATH}.lora_A.weight`]: A, [`${PATH}.lora_B.weight`]: EMPTY }],
    [
      'a module that was saved whole',
      {
        [`${PATH}.lora_A.weight`]: A,
        [`${PATH}.lora_B.weight`]: B,
        'base_model.model.lm_head.weight': EMPTY,
      },
    ],
  ])('in an adapter: %s', async (_, tensors) => {
    await expect(compressed(tensors, { [Q]: WEIGHT })).rejects.toThrow(/ZeRO-3.*zero_to_fp32/)
    await expect(compressed(tensors)).rejects.toThrow(/ZeRO-3/)
  })

  test('in a fine-tuning, a base, a file of signs', async () => {
    const run = async (base: Record<string, Values>, tuned: Record<string, Values>) =>
      compressTaskVector(
        await fullTaskVector(await checkpoint(base), await checkpoint(tuned)),
        {},
        { spool: memorySpool() },
      )
    const moved = { ...WEIGHT, values: heavyTailed(24, 9) }
    await expect(run({ [Q]: WEIGHT, w: WEIGHT }, { [Q]: EMPTY, w: moved })).rejects.toThrow(
      /layers\.0.*ZeRO-3/,
    )
    await expect(run({ [Q]: EMPTY, w: WEIGHT }, { [Q]: WEIGHT, w: moved })).rejects.toThrow(
      /layers\.0.*ZeRO-3/,
    )
    await expect(run({ [Q]: EMPTY, w: WEIGHT }, { [Q]: EMPTY, w: moved })).rejects.toThrow(
      /layers\.0.*ZeRO-3/,
    )
    const signs = await checkpoint({ w: { ...EMPTY, dtype: 'I8' } })
    await expect(packTernary(signs, undefined, {}, { spool: memorySpool() })).rejects.toThrow(/ZeRO-3/)
  })
})

describe('files that are something else', () => {
  const bytes = (text: string) => new TextEncoder().encode(text) as Uint8Array<ArrayBuffer>
  const POINTER = bytes(
    `version https://git-lfs.github.com/spec/v1\noid sha256:${'0'.repeat(64)}\nsize 321000\n`,
  )
  const PAGE = bytes('<!doctype html><title>App</title>')

  test.each([
    ['a Git LFS pointer', POINTER, /Git LFS pointer/],
    ['a page', PAGE, /HTML/],
  ])('%s in place of weights and of a configuration', async (_, content, message) => {
    await expect(openCheckpoint(memorySource(content, 'x.safetensors'))).rejects.toMatchObject({ message })
    await expect(readJson(memorySource(content, 'x.json'))).rejects.toMatchObject({ tag: 'format', message })
  })

  test.each([
    ['null', 'null', /found null/],
    ['a list', '[]', /found a list/],
    ['a text', '"x"', /found a string/],
    ['nothing', '', /not JSON/],
    ['half an object', '{"a":', /not JSON/],
    ['an object without a method', '{}', /peft_type/],
    ['brackets', '['.repeat(2_000_000), /nests over/],
    ['values', `[${'0,'.repeat(2_000_000)}0]`, /holds over/],
  ])('an adapter_config.json that is %s', async (_, text, message) => {
    const folder = memoryFolder({
      'adapter_config.json': bytes(text),
      'adapter_model.safetensors': safetensors({ 'a.lora_A.weight': A }),
    })
    await expect(adapterTaskVector(folder)).rejects.toMatchObject({ message })
  })

  test('an adapter in place of a fine-tuning', async () => {
    const tuned = await checkpoint({ 'base_model.model.q_proj.lora_A.weight': A }, 'adapter')
    await expect(fullTaskVector(await checkpoint({ [Q]: WEIGHT }), tuned)).rejects.toThrow(
      /is an adapter.*--adapter/,
    )
  })

  test.each([
    ['bitsandbytes 4-bit', { [`${Q}.absmax`]: { shape: [4], values: [1, 1, 1, 1] } }],
    ['bitsandbytes 8-bit', { [`${Q}.SCB`]: { shape: [4], values: [1, 1, 1, 1] } }],
    ['GPTQ or AWQ', { 'model.layers.0.q_proj.g_idx': { shape: [4], values: [1, 1, 1, 1] } }],
  ])('a base that is quantized: %s', async (scheme, extra) => {
    const packed = { [Q]: { shape: [12, 1], values: heavyTailed(12, 1), dtype: 'I8' as const }, ...extra }
    const pair = {
      'base_model.model.model.layers.0.q_proj.lora_A.weight': A,
      'base_model.model.model.layers.0.q_proj.lora_B.weight': B,
    }
    await expect(compressed(pair, packed)).rejects.toThrow(`is quantized (${scheme})`)
    const task = await fullTaskVector(await checkpoint(packed), await checkpoint({ [Q]: WEIGHT }))
    await expect(compressTaskVector(task, {}, { spool: memorySpool() })).rejects.toThrow(
      `is quantized (${scheme})`,
    )
  })
})
