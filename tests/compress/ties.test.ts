import { expect, test } from 'vitest'
import { adapterTaskVector } from '../../src/compress/adapter.ts'
import { type Checkpoint, openCheckpoint } from '../../src/compress/checkpoint.ts'
import { compressTaskVector } from '../../src/compress/compress.ts'
import { fullTaskVector } from '../../src/compress/full.ts'
import { tiedCopies } from '../../src/compress/ties.ts'
import { memorySpool } from '../../src/format/index.ts'
import { memorySource } from '../../src/source/memory.ts'
import { heavyTailed, memoryFolder, safetensors, type Values } from './checkpoints.ts'

const E = 'model.embed_tokens.weight'
const H = 'lm_head.weight'
const Q = 'model.layers.0.q_proj.weight'
const matrix = (seed: number): Values => ({ shape: [8, 6], values: heavyTailed(48, seed) })
const [BASE, MOVED, APART] = [matrix(1), matrix(2), matrix(3)]
const q = { [Q]: { shape: [6, 6], values: heavyTailed(36, 4) } }
const checkpoint = (tensors: Record<string, Values>, name = 'base') =>
  openCheckpoint(memorySource(safetensors(tensors), name))

const TIED = { [E]: BASE, ...q }
const TWICE = { [E]: BASE, [H]: BASE, ...q }
const UNTIED = { [E]: BASE, [H]: APART, ...q }

/** What of the embedding and the output layer changes: name, target, layout. */
async function full(base: Record<string, Values>, finetuned: Record<string, Values>) {
  const task = await fullTaskVector(await checkpoint(base), await checkpoint(finetuned, 'tuned'))
  return task.tensors
    .filter(({ name }) => name !== Q)
    .map(({ name, target, layout, problem }) => [name, target, problem === undefined ? layout : 'refused'])
}

test.each([
  ['tied, and so is the fine-tuning', TIED, { [E]: MOVED, ...q }, [[E, E, undefined]]],
  ['tied, and the fine-tuning has it twice', TIED, { [E]: MOVED, [H]: MOVED, ...q }, [[E, E, undefined]]],
  ['tied, and the fine-tuning kept the other name', TIED, { [H]: MOVED, ...q }, [[H, E, undefined]]],
  ['there twice, and tied in the fine-tuning', TWICE, { [E]: MOVED, ...q }, [[E, E, undefined]]],
  ['there twice, and twice in the fine-tuning', TWICE, { [E]: MOVED, [H]: MOVED, ...q }, [[E, E, undefined]]],
  [
    'tied, and untied by the fine-tuning',
    TIED,
    { [E]: MOVED, [H]: APART, ...q },
    [
      [E, E, 'embedding'],
      [H, E, 'linear'],
    ],
  ],
  [
    'there twice, and untied by the fine-tuning',
    TWICE,
    { [E]: MOVED, [H]: APART, ...q },
    [
      [E, E, 'embedding'],
      [H, E, 'linear'],
    ],
  ],
  [
    'not tied',
    UNTIED,
    { [E]: MOVED, [H]: BASE, ...q },
    [
      [E, E, undefined],
      [H, H, undefined],
    ],
  ],
])('a base whose output layer is %s', async (_, base, finetuned, expected) => {
  expect(await full(base, finetuned)).toEqual(expected)
})

test('an output layer that moved alone leaves the embedding', async () => {
  const task = await fullTaskVector(await checkpoint(TIED), await checkpoint({ [E]: BASE, [H]: APART, ...q }))
  const report = await compressTaskVector(task, {}, { spool: memorySpool() })
  expect(report.tensors.map(({ name }) => name)).toEqual([H])
  expect(report.unmoved).toContain(E)
  // Globs name it as the fine-tuning does, and the embedding apart from it.
  const without = compressTaskVector(task, { exclude: [H] }, { spool: memorySpool() })
  await expect(without).rejects.toThrow(/no tensor differs/)
  expect((await compressTaskVector(task, { exclude: [E] }, { spool: memorySpool() })).tensors).toHaveLength(1)
})

test('embeddings of encoder and decoder that are one weight cannot move apart', async () => {
  const [shared, encoder, decoder] = ['shared', 'encoder.embed_tokens', 'decoder.embed_tokens'].map(
    (n) => `${n}.weight`,
  )
  const base = { [shared]: BASE, [encoder]: BASE, [decoder]: BASE }
  const together = { [shared]: MOVED, [encoder]: MOVED, [decoder]: MOVED }
  expect(await full(base, together)).toEqual([[shared, shared, undefined]])
  expect(await full(base, { ...together, [decoder]: APART })).toContainEqual([decoder, shared, 'refused'])
})

test('copies of a tied weight are found by their values', async () => {
  const copies = async (tensors: Record<string, Values>) => tiedCopies((await checkpoint(tensors)).tensors)
  expect([await copies(TIED), await copies(TWICE), await copies(UNTIED)]).toEqual([[], [H], []])
})

/** The same of an adapter that holds modules whole. */
async function adapter(base: Checkpoint, tensors: Record<string, Values>, config = {}) {
  const factors = {
    'base_model.model.model.layers.0.q_proj.lora_A.weight': { shape: [2, 6], values: heavyTailed(12, 5) },
    'base_model.model.model.layers.0.q_proj.lora_B.weight': { shape: [6, 2], values: heavyTailed(12, 6) },
  }
  const saved = Object.entries(tensors).map(([name, values]) => [`base_model.model.${name}`, values])
  const task = await adapterTaskVector(
    memoryFolder({
      'adapter_config.json': { peft_type: 'LORA', r: 2, lora_alpha: 4, ...config },
      'adapter_model.safetensors': safetensors({ ...factors, ...Object.fromEntries(saved) }),
    }),
    base,
  )
  return task.tensors
    .filter(({ role }) => role === 'delta')
    .map(({ target, layout, problem }) => [target, problem === undefined ? layout : 'refused'])
}

const EMBEDDING = { modules_to_save: ['embed_tokens'] }
const BOTH = { modules_to_save: ['embed_tokens', 'lm_head'] }
test.each([
  [
    'the embedding, of which peft leaves the output layer behind',
    TIED,
    { [E]: MOVED },
    EMBEDDING,
    [[E, 'embedding']],
  ],
  ['the embedding, in a base that has it twice', TWICE, { [E]: MOVED }, EMBEDDING, [[E, 'embedding']]],
  [
    'the embedding with ensure_weight_tying',
    TIED,
    { [E]: MOVED },
    { ...EMBEDDING, ensure_weight_tying: true },
    [[E, undefined]],
  ],
  ['an embedding that was saved but not as a copy', TIED, { [E]: MOVED }, {}, [[E, undefined]]],
  ['both, with one value', TIED, { [E]: MOVED, [H]: MOVED }, BOTH, [[E, undefined]]],
  [
    'both, with values of their own',
    TIED,
    { [E]: MOVED, [H]: APART },
    BOTH,
    [
      [E, 'embedding'],
      [E, 'linear'],
    ],
  ],
  ['the output layer alone', TIED, { [H]: APART }, { modules_to_save: ['lm_head'] }, [[E, 'linear']]],
  [
    'both of an untied base',
    UNTIED,
    { [E]: MOVED, [H]: BASE },
    BOTH,
    [
      [E, 'embedding'],
      [H, undefined],
    ],
  ],
])('an adapter that saves %s', async (_, base, tensors, config, expected) => {
  const found = await adapter(await checkpoint(base), tensors as Record<string, Values>, config)
  expect(found.sort()).toEqual([...expected].sort())
})

test('tied factors that a file holds for the embedding alone are refused', async () => {
  const factors = {
    'base_model.model.model.embed_tokens.lora_embedding_A': { shape: [2, 8], values: heavyTailed(16, 7) },
    'base_model.model.model.embed_tokens.lora_embedding_B': { shape: [6, 2], values: heavyTailed(12, 8) },
  }
  const folder = (tied: boolean) =>
    memoryFolder({
      'adapter_config.json': { peft_type: 'LORA', r: 2, lora_alpha: 4, ensure_weight_tying: tied },
      'adapter_model.safetensors': safetensors(factors),
    })
  await expect(adapterTaskVector(folder(true), await checkpoint(TIED))).rejects.toThrow(/ensure_weight_tying/)
  await expect(adapterTaskVector(folder(true))).rejects.toThrow(/ensure_weight_tying/)
  expect((await adapterTaskVector(folder(true), await checkpoint(UNTIED))).tensors).toHaveLength(2)
  expect((await adapterTaskVector(folder(false), await checkpoint(TIED))).tensors).toHaveLength(2)
})
