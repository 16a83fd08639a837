import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { checkModel } from '../../src/cli/check_model.ts'
import { Evaluation } from '../../src/cli/evaluation.ts'
import { openFile } from '../../src/cli/file_source.ts'
import { readInput } from '../../src/cli/graph_inputs.ts'
import { expertVariant, type Variant } from '../../src/cli/variants.ts'
import { adapterTaskVector } from '../../src/compress/adapter.ts'
import { openCheckpoint } from '../../src/compress/checkpoint.ts'
import { mergeExperts } from '../../src/compress/merge.ts'
import { peftFolder } from '../../src/compress/peft_folder.ts'
import type { Example } from '../../src/engine/answered_example.ts'
import { memorySpool, readHead } from '../../src/format/index.ts'
import { checkActsEverywhere } from '../../src/format/invocation.ts'
import { memorySource } from '../../src/source/memory.ts'
import { memoryFolder, safetensors, type Values } from '../compress/checkpoints.ts'
import { prepared, ZOO } from '../onnx/graphs.ts'
import { LONG } from '../tier.ts'
import { fixtureFile, PROMPT_KINDS } from './prompt_fixtures.ts'

const TOLERANCE = 1e-3

/** One of each in the quick tier. */
function casesOf(model: string): string[] {
  return readdirSync(join(PROMPT_KINDS, model), { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && (LONG || QUICK[model]?.includes(entry.name)))
    .map(({ name }) => name)
}

const QUICK: Record<string, readonly string[]> = { 'llama-tiny': ['alora', 'prompt', 'prefix'] }
const MODELS = readdirSync(PROMPT_KINDS).filter((model) => LONG || model in QUICK)
const BINDINGS = LONG ? (['merge', 'input'] as const) : (['input'] as const)

describe.each(MODELS)('%s', (model) => {
  let folder: string
  const scratch = mkdtempSync(join(tmpdir(), 'tritswap-prompt-'))
  afterAll(() => rmSync(scratch, { recursive: true }))
  beforeAll(async () => {
    folder = (await prepared(join(ZOO, model))).out
  })

  test.each(casesOf(model))('%s gives what torch gives, by every binding', async (name) => {
    const path = join(scratch, `${name}.trit`)
    writeFileSync(path, await fixtureFile(model, name))
    const inputs = join(PROMPT_KINDS, model, 'expected.safetensors')
    const request = { model: folder, inputs, experts: [{ path, weight: 1 }], wants: [name], prepare: {} }
    for (const binding of BINDINGS) {
      const report = await checkModel({ ...request, binding, tolerance: TOLERANCE })
      expect(report.results).toMatchObject([
        { name: 'base', right: true },
        { name, right: true },
      ])
    }
  })

  test.runIf(LONG)('eval counts what peft would write: the base reads up to the invocation', async () => {
    const path = join(scratch, 'eval.trit')
    writeFileSync(path, await fixtureFile(model, 'alora'))
    const { tensors } = await openCheckpoint(
      await openFile(join(PROMPT_KINDS, model, 'expected.safetensors')),
    )
    const integers = async (name: string) => Array.from((await readInput(tensors.get(name)!)).data, Number)
    const prompt = await integers('input_ids')
    const example = { ids: [...prompt, ...(await integers('greedy.alora'))], first: prompt.length }
    const evaluation = await Evaluation.open(folder)
    try {
      const variant = await expertVariant(evaluation.base, path)
      const chosen = async (of: Partial<Variant>) => (await evaluation.score([example], of))[0].firstChoices
      expect(await chosen(variant)).toBe(example.ids.length - example.first)
      expect(await chosen({})).toBeLessThan(example.ids.length - example.first)
      // Acting on all of the prompt it is another model.
      expect(await chosen({ ...variant, invocation: undefined })).toBeLessThan(
        example.ids.length - example.first,
      )
      // Of a text each part is counted by who reads it.
      const { ids } = example
      const start = prompt.length - 4
      const bits = async (counted: Example, of: Partial<Variant>, readsFrom?: () => number) =>
        (await evaluation.score([counted], of, { readsFrom }))[0].bits
      const before = await bits({ ids: ids.slice(0, start + 1), first: 1 }, {})
      const behind = await bits({ ids, first: start + 1 }, variant, () => start)
      expect(await bits({ ids, first: 1 }, variant)).toBeCloseTo(before + behind, 3)
      await variant.close()
    } finally {
      await evaluation.close()
    }
  })

  test.each([
    ['prompt', 2 * 5 * 64],
    ['prefix', 2 * 4 * 2 * 4 * 16],
  ])('eval counts what peft would write behind %s, which the base reads', async (name, f16Bytes) => {
    const path = join(scratch, `eval_${name}.trit`)
    writeFileSync(path, await fixtureFile(model, name))
    const { tensors } = await openCheckpoint(
      await openFile(join(PROMPT_KINDS, model, 'expected.safetensors')),
    )
    const integers = async (name: string) => Array.from((await readInput(tensors.get(name)!)).data, Number)
    const prompt = await integers('input_ids')
    const behind = async (who: string) => {
      return { ids: [...prompt, ...(await integers(`greedy.${who}`))], first: prompt.length }
    }
    // What they begin with is read once, behind the virtual tokens.
    const examples = [await behind(name), await behind('base')]
    const evaluation = await Evaluation.open(folder)
    try {
      const variant = await expertVariant(evaluation.base, path)
      const scored = (of: Partial<Variant>, given = examples) => evaluation.score(given, of)
      const all = examples[0].ids.length - prompt.length
      const [own, other] = await scored(variant)
      expect(own.firstChoices).toBe(all)
      const [, plain] = await scored({})
      expect(plain.firstChoices).toBe(all)
      expect(Math.abs(other.bits - plain.bits)).toBeGreaterThan(0.01 * plain.bits)
      expect((await scored(variant, examples.slice(0, 1)))[0].bits).toBeCloseTo(own.bits, 3)
      expect(variant.f16Bytes).toBe(f16Bytes)
      await variant.close()
    } finally {
      await evaluation.close()
    }
  })

  test('what has no fixed weights is not merged with others', async () => {
    const source = memorySource(await fixtureFile(model, 'alora'))
    const expert = { source, head: await readHead(source) }
    const merging = mergeExperts([expert, expert], { method: 'average' }, { spool: memorySpool() })
    await expect(merging).rejects.toMatchObject({
      tag: 'unsupported',
      message: /Cannot merge .*activated LoRA/,
    })
    expect(peftFolder(source, expert.head).config).toMatchObject({ alora_invocation_tokens: [77, 1500] })
  })
})

test('an aLoRA with what acts on every token is refused, naming it', async () => {
  const config = JSON.parse(readFileSync(join(PROMPT_KINDS, 'llama-tiny/alora/adapter_config.json'), 'utf8'))
  const path = 'base_model.model.model.layers.0.self_attn.q_proj'
  const of = (shape: number[]) => ({ shape, values: new Float32Array(shape[0] * shape[1]).fill(0.1) })
  const factors = { [`${path}.lora_A.weight`]: of([4, 64]), [`${path}.lora_B.weight`]: of([64, 4]) }
  const problemOf = async (more: Record<string, Values>) => {
    const folder = memoryFolder({
      'adapter_config.json': { ...config, modules_to_save: ['lm_head'] },
      'adapter_model.safetensors': safetensors({ ...factors, ...more }),
    })
    const { invocation, tensors } = await adapterTaskVector(folder)
    expect(invocation).toEqual([77, 1500])
    return tensors.find(({ problem }) => problem !== undefined)?.problem
  }
  expect(await problemOf({})).toBeUndefined()
  const embedding = 'base_model.model.model.embed_tokens.lora_embedding_'
  const wrong = { [`${embedding}A`]: of([4, 4096]), [`${embedding}B`]: of([64, 4]) }
  expect(await problemOf(wrong)).toMatchObject({
    tag: 'unsupported',
    message: /aLoRA wait for its invocation/,
  })
})

test('virtual tokens of other tasks, or beside other tensors, are refused by name; merge and attach refuse them', async () => {
  const config = JSON.parse(readFileSync(join(PROMPT_KINDS, 'llama-tiny/prompt/adapter_config.json'), 'utf8'))
  const of = (shape: number[]) => ({ shape, values: new Float32Array(shape[0] * shape[1]).fill(0.1) })
  const taskOf = (change: object, more: Record<string, Values> = {}) =>
    adapterTaskVector(
      memoryFolder({
        'adapter_config.json': { ...config, ...change },
        'adapter_model.safetensors': safetensors({ prompt_embeddings: of([5, 64]), ...more }),
      }),
    )
  expect(await taskOf({})).toMatchObject({ method: 'prompt', tensors: [{ role: 'virtual', shape: [5, 64] }] })
  await expect(taskOf({ task_type: 'SEQ_CLS' })).rejects.toMatchObject({
    message: /virtual tokens of SEQ_CLS/,
  })
  const wrong = await taskOf({ num_virtual_tokens: 6 })
  expect(wrong.tensors[0].problem).toMatchObject({ tag: 'input', message: /expected \[6, width\]/ })
  const saved = await taskOf({ modules_to_save: ['lm_head'] }, { 'base_model.lm_head.weight': of([8, 64]) })
  expect(saved.tensors.find(({ problem }) => problem)?.problem?.message).toMatch(/modules saved whole/)

  await expect(taskOf({ peft_type: 'MULTITASK_PROMPT_TUNING', num_tasks: 2 })).rejects.toMatchObject({
    tag: 'unsupported',
    message: /multitask prompt tuning has other virtual tokens for each task/,
  })
  const prefix = await taskOf({ peft_type: 'PREFIX_TUNING', num_layers: 2, num_attention_heads: 4 })
  expect(prefix.tensors.map(({ name, shape }) => [name, shape])).toEqual(
    ['0.key', '0.value', '1.key', '1.value'].map((part) => [`past_key_values.${part}`, [4, 5, 4]]),
  )
  const odd = await taskOf({ peft_type: 'PREFIX_TUNING', num_layers: 3, num_attention_heads: 4 })
  expect(odd.tensors[0].problem?.message).toMatch(
    /expected \[5, 3 layers × 2 × 4 heads × size\].*found \[5,64\]/,
  )

  const source = memorySource(await fixtureFile('llama-tiny', 'prompt', {}))
  const expert = { source, head: await readHead(source) }
  expect(expert.head.table).toMatchObject({
    method: 'prompt',
    tensors: [{ role: 'virtual', codec: 'dense' }],
  })
  expect(() => checkActsEverywhere(expert.head.table, 'x', 'attach')).toThrow(/Cannot attach x: .*5 virtual/)
  await expect(
    mergeExperts([expert, expert], { method: 'average' }, { spool: memorySpool() }),
  ).rejects.toMatchObject({ tag: 'unsupported', message: /Cannot merge .*virtual tokens/ })
})
