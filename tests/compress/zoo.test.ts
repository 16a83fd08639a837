import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { openFolder } from '../../src/cli/file_source.ts'
import { adapterTaskVector } from '../../src/compress/adapter.ts'
import { openCheckpoint } from '../../src/compress/checkpoint.ts'
import { compressTaskVector } from '../../src/compress/compress.ts'
import { fullTaskVector } from '../../src/compress/full.ts'
import { memorySpool, parseHead, type TritTensor } from '../../src/format/index.ts'

const ZOO = '../shared/onnx-zoo'
const MODELS = ['bert-tiny-classify', 'gpt2-tiny', 'llama-tiny', 'qwen2-tiny', 't5-tiny', 'vit-tiny']

interface Expected {
  experts: Record<string, { tensors?: Record<string, { kept: number; scale: number }> }>
}

const expectedOf = (model: string) =>
  JSON.parse(readFileSync(`${ZOO}/${model}/expected.json`, 'utf8')) as Expected

/** The zoo's rule on one of its experts; the tensors of the file by name. */
async function compressZoo(model: string, expert: string): Promise<Map<string, TritTensor>> {
  const base = await openCheckpoint(openFolder(`${ZOO}/${model}`))
  const full = expert === 'finetuned' || expert === 'bitfit'
  const task = full
    ? await fullTaskVector(base, await openCheckpoint(openFolder(`${ZOO}/${model}/${expert}`)))
    : await adapterTaskVector(openFolder(`${ZOO}/${model}/adapters/${expert}`), base)
  const rule = { rule: 'published', threshold: 'tensor', density: 0.2, alpha: 2 } as const
  const { head } = await compressTaskVector(task, rule, { spool: memorySpool() })
  const { table } = await parseHead(head, expert)
  return new Map(table.tensors.map((tensor) => [tensor.name, tensor]))
}

/** peft saves the bias of a saved module twice when bias is "all"; applied twice it would count twice. */
const SECOND_COPIES = ['base_model.model.classifier.modules_to_save.bias']

for (const model of MODELS) {
  describe(model, () => {
    const { experts } = expectedOf(model)
    test.each(Object.keys(experts))('%s: kept and scale of every tensor', async (expert) => {
      const found = await compressZoo(model, expert)
      const expected = Object.entries(experts[expert].tensors ?? {}).filter(
        ([name]) => !SECOND_COPIES.includes(name),
      )
      if (expected.length > 0) expect([...found.keys()].sort()).toEqual(expected.map(([name]) => name).sort())
      for (const [name, { kept, scale }] of expected) {
        const tensor = found.get(name)
        expect([name, tensor?.codec === 'ternary' && [tensor.kept, tensor.scale]]).toEqual([
          name,
          [kept, scale],
        ])
      }
    })
  })
}

describe('what the table says of adapters', () => {
  const tensor = async (model: string, expert: string, name: string) =>
    (await compressZoo(model, expert)).get(`base_model.model.${name}`)

  test('patterns of rank and alpha, and rsLoRA', async () => {
    // r 4, alpha 4; rank 8 for every down_proj, alpha 16 for layers.1.self_attn.v_proj.
    const found = await compressZoo('llama-tiny', 'lora_rslora_patterns')
    const scalings = [...found.values()].flatMap(({ role, scaling, target }) =>
      role === 'loraB' ? [[target.slice('model.layers.'.length), scaling]] : [],
    )
    expect(Object.fromEntries(scalings)).toEqual({
      '0.mlp.down_proj.weight': 4 / Math.sqrt(8),
      '1.mlp.down_proj.weight': 4 / Math.sqrt(8),
      '0.self_attn.q_proj.weight': 2,
      '1.self_attn.q_proj.weight': 2,
      '0.self_attn.v_proj.weight': 2,
      '1.self_attn.v_proj.weight': 8,
    })
  })

  test('layouts: linear, Conv1D, Conv2d, embedding', async () => {
    expect(await tensor('llama-tiny', 'lora', 'model.layers.0.mlp.down_proj.lora_B.weight')).toMatchObject({
      role: 'loraB',
      target: 'model.layers.0.mlp.down_proj.weight',
      scaling: 2,
      layout: 'linear',
    })
    // Square, so only the configuration tells.
    expect(await tensor('gpt2-tiny', 'lora', 'transformer.h.0.attn.c_proj.lora_A.weight')).toMatchObject({
      role: 'loraA',
      layout: 'conv1d',
    })
    expect(
      await tensor('vit-tiny', 'lora_conv', 'vit.embeddings.patch_embeddings.projection.lora_A.weight'),
    ).toMatchObject({ layout: 'conv2d' })
    expect(
      await tensor('llama-tiny', 'lora_embeddings', 'model.embed_tokens.lora_embedding_A'),
    ).toMatchObject({
      role: 'loraA',
      target: 'model.embed_tokens.weight',
      layout: 'embedding',
    })
  })

  test('(IA)³ on inputs and outputs', async () => {
    expect(await tensor('llama-tiny', 'ia3', 'model.layers.0.mlp.down_proj.ia3_l')).toMatchObject({
      role: 'ia3',
      feedforward: true,
      shape: [1, 192],
    })
    const output = await tensor('gpt2-tiny', 'ia3', 'transformer.h.0.attn.c_attn.ia3_l')
    expect(output).toMatchObject({ role: 'ia3', layout: 'conv1d', shape: [192, 1] })
    expect(output?.feedforward).toBeUndefined()
  })

  test('whole modules and biases are deltas of the base tensor', async () => {
    expect(
      await tensor('qwen2-tiny', 'lora_bias', 'model.layers.0.self_attn.k_proj.base_layer.bias'),
    ).toMatchObject({
      role: 'delta',
      target: 'model.layers.0.self_attn.k_proj.bias',
    })
    expect(
      await tensor('llama-tiny', 'lora_modules_to_save', 'model.layers.1.input_layernorm.weight'),
    ).toMatchObject({
      role: 'delta',
      target: 'model.layers.1.input_layernorm.weight',
    })
  })
})
