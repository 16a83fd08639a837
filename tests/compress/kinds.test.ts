import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { checkModel } from '../../src/cli/check_model.ts'
import { openFile, openFolder } from '../../src/cli/file_source.ts'
import { adapterTaskVector } from '../../src/compress/adapter.ts'
import { openCheckpoint } from '../../src/compress/checkpoint.ts'
import { compressTaskVector } from '../../src/compress/compress.ts'
import type { RuleOptions } from '../../src/compress/rules.ts'
import { readFloats } from '../../src/compress/safetensors.ts'
import { memorySpool } from '../../src/format/index.ts'
import { readExpert, relativeDifference } from '../../src/reference/index.ts'
import { memorySource } from '../../src/source/memory.ts'
import { outputsOf, prepared, ZOO } from '../onnx/graphs.ts'
import { LONG } from '../tier.ts'
import { memoryFolder, safetensors, type Values } from './checkpoints.ts'

/** Made by `authoring/peft_kinds.py`: adapters as peft saves them, and what torch answers to the zoo's first input. */
const FIXTURES = join(import.meta.dirname, '../fixtures/kinds')
const UNCOMPRESSED: RuleOptions = { dense: ['*'], denseDtype: 'f32' }
/** f32 in another order of sums, over the range of the outputs. */
const TOLERANCE = 1e-3

/** They scale one of two modules that share a weight, and no weight is equal to that: they are always beside it. */
const BESIDE = ['qwen2-tiny/dora_embedding']

async function taskOf(model: string, name: string) {
  const base = await openCheckpoint(await openFile(join(ZOO, model, 'model.safetensors')))
  return adapterTaskVector(openFolder(join(FIXTURES, model, name)), base)
}

async function fileOf(model: string, name: string, rules: RuleOptions) {
  const spool = memorySpool()
  const { head } = await compressTaskVector(await taskOf(model, name), rules, { spool })
  return spool.join(head)
}

async function expectedOf(model: string, name: string) {
  const file = await openFile(join(FIXTURES, model, 'expected.safetensors'))
  const tensor = (await openCheckpoint(file)).tensors.get(name)!
  const values = { data: await readFloats(tensor), dims: tensor.shape }
  await file.close()
  return values
}

function casesOf(model: string, isRefused = false): string[] {
  return readdirSync(join(FIXTURES, model), { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && entry.name.startsWith('refuse_') === isRefused)
    .map(({ name }) => name)
}

describe.each(readdirSync(FIXTURES))('%s', (model) => {
  let base: Awaited<ReturnType<typeof prepared>>
  const scratch = mkdtempSync(join(tmpdir(), 'tritswap-kinds-'))
  afterAll(() => rmSync(scratch, { recursive: true }))
  beforeAll(async () => {
    base = await prepared(join(ZOO, model))
  })

  test.each(casesOf(model))('%s gives what torch gives', async (name) => {
    const file = await fileOf(model, name, UNCOMPRESSED)
    const isBeside = BESIDE.includes(`${model}/${name}`)
    if (!isBeside) {
      const { logits } = await outputsOf(model, base, await base.weights.patched(memorySource(file)))
      const torch = await expectedOf(model, name)
      // Of the zoo's two inputs the first.
      const [rows, ...dims] = logits.dims
      const first = { data: logits.data.subarray(0, logits.data.length / rows), dims: [1, ...dims] }
      expect(relativeDifference(first, torch)).toBeLessThan(TOLERANCE)
    }
    if (!LONG && !isBeside) return
    const path = join(scratch, `${name}.trit`)
    writeFileSync(path, file)
    const inputs = join(FIXTURES, model, 'expected.safetensors')
    const request = { model: base.out, inputs, experts: [{ path, weight: 1 }], wants: [name], prepare: {} }
    const report = await checkModel({ ...request, binding: 'input', tolerance: TOLERANCE })
    expect(report.results.filter(({ right }) => !right)).toEqual([])
  })
})

describe('refusals', () => {
  test.each([
    ['llama-tiny', 'refuse_vera_unsaved', /VeRA.*save_projection.*save it again/],
    ['vit-tiny', 'refuse_oft_kernel', /OFT rotates the patches.*overlap/],
  ])('%s/%s', async (model, name, message) => {
    const find = async () => {
      const { tensors } = await taskOf(model, name)
      throw tensors.find(({ problem }) => problem !== undefined)?.problem
    }
    await expect(find()).rejects.toMatchObject({ tag: 'unsupported', message })
  })
})

test('the scale of DoRA is not left out without its factors', async () => {
  await expect(fileOf('llama-tiny', 'dora', { exclude: ['*magnitude*'] })).rejects.toMatchObject({
    tag: 'input',
    message: /scale of .* is left out/,
  })
})

describe('DoRA, compressed: rows of the merged weight have the lengths that were trained', () => {
  const model = 'llama-tiny'
  const paths = ['model.layers.0.self_attn.q_proj', 'model.layers.1.mlp.down_proj']
  let base: Awaited<ReturnType<typeof prepared>>
  const tensors: Record<string, Values> = {}
  beforeAll(async () => {
    base = await prepared(join(ZOO, model))
    const adapter = await openFile(join(FIXTURES, model, 'dora', 'adapter_model.safetensors'))
    for (const [name, tensor] of (await openCheckpoint(adapter)).tensors) {
      const values = await readFloats(tensor)
      // As small as training makes it beside the base.
      const scale = name.includes('lora_B') ? 0.1 : 1
      tensors[name] = { shape: tensor.shape, values: values.map((value) => scale * value) }
    }
    await adapter.close()
  })

  test.each([
    ['as terms', {}],
    ['as ternary factors', { codec: 'ternary' }],
    ['dense', { dense: ['*'] }],
    ['to a size', { bytes: 3000 }],
  ] as [string, RuleOptions][])('%s', async (_, rules) => {
    const config = JSON.parse(readFileSync(join(FIXTURES, model, 'dora', 'adapter_config.json'), 'utf8'))
    const folder = memoryFolder({
      'adapter_config.json': config,
      'adapter_model.safetensors': safetensors(tensors),
    })
    const checkpoint = await openCheckpoint(await openFile(join(ZOO, model, 'model.safetensors')))
    const spool = memorySpool()
    const { head } = await compressTaskVector(await adapterTaskVector(folder, checkpoint), rules, { spool })
    const file = memorySource(spool.join(head))
    const changed = await base.weights.patched(file)
    for (const path of paths) {
      const lengths = tensors[`base_model.model.${path}.lora_magnitude_vector`].values
      const values = changed.get(`${path}.weight`)!
      const cols = values.length / lengths.length
      for (let r = 0; r < lengths.length; r++)
        expect(Math.hypot(...values.subarray(r * cols, (r + 1) * cols)) / lengths[r]).toBeCloseTo(1, 2)
    }
    expect((await readExpert(file)).table.tensors.filter(({ role }) => role === 'ia3')).toHaveLength(2)
  })
})
