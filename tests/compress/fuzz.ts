/**
 * Hostile safetensors headers, shard indexes and adapter_config.json, from a seed. Every case ends in a result or in one
 * of our errors.
 *
 * @module
 */
import { adapterTaskVector } from '../../src/compress/adapter.ts'
import { openCheckpoint } from '../../src/compress/checkpoint.ts'
import { readFloats, readSafetensors } from '../../src/compress/safetensors.ts'
import { memorySource } from '../../src/source/memory.ts'
import { below, fuzzOf, jsonBytes, mutated, pick, type Random } from '../hostile.ts'
import { memoryFolder, safetensors } from './checkpoints.ts'

const HEADER = {
  __metadata__: { format: 'pt' },
  'model.layers.0.q_proj.weight': { dtype: 'F32', shape: [2, 3], data_offsets: [0, 24] },
  'lm_head.weight': { dtype: 'F16', shape: [2], data_offsets: [24, 28] },
  empty: { dtype: 'I8', shape: [0], data_offsets: [28, 28] },
}

async function header(random: Random): Promise<void> {
  const text = jsonBytes(random, mutated(random, HEADER))
  const bytes = new Uint8Array(8 + text.length + pick(random, [28, 28, 28, 28, 0, 27, 64]))
  const length = random() < 0.9 ? text.length : pick(random, [0, 7, 2 ** 31, 2 ** 53])
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true)
  bytes.set(text, 8)
  const source = memorySource(bytes, 'x.safetensors')
  for (const tensor of (await readSafetensors(source)).tensors) await readFloats(tensor)
}

const SHARD = safetensors({ a: { shape: [2], values: [1, 2] } })
const OTHER = safetensors({ b: { shape: [2], values: [3, 4] } })
const INDEX = { metadata: { total_size: 16 }, weight_map: { a: 'one.safetensors', b: 'two.safetensors' } }

async function index(random: Random): Promise<void> {
  await openCheckpoint(
    memoryFolder({
      'one.safetensors': SHARD,
      'two.safetensors': OTHER,
      'model.safetensors.index.json': jsonBytes(random, mutated(random, INDEX)),
    }),
  )
}

const CONFIGS = [
  {
    peft_type: 'LORA',
    r: 2,
    lora_alpha: 4,
    rank_pattern: { 'layers\\.0\\..*': 2 },
    alpha_pattern: { q_proj: 8, '0': 1 },
    use_rslora: false,
    modules_to_save: ['lm_head'],
    init_lora_weights: true,
  },
  { peft_type: 'IA3', feedforward_modules: '.*fc2', target_modules: ['q_proj'] },
]
const ADAPTERS = [
  safetensors({
    'base_model.model.layers.0.q_proj.lora_A.weight': { shape: [2, 3], values: [1, 2, 3, 4, 5, 6] },
    'base_model.model.layers.0.q_proj.lora_B.weight': { shape: [4, 2], values: [1, 2, 3, 4, 5, 6, 7, 8] },
  }),
  safetensors({ 'base_model.model.q_proj.ia3_l': { shape: [3, 1], values: [1, 2, 3] } }),
]

async function config(random: Random): Promise<void> {
  const which = below(random, CONFIGS.length)
  await adapterTaskVector(
    memoryFolder({
      'adapter_config.json': jsonBytes(random, mutated(random, CONFIGS[which])),
      'adapter_model.safetensors': ADAPTERS[which],
    }),
  )
}

const KINDS = [header, index, config]
const TAGS = ['format', 'limit', 'input', 'unsupported', 'base']

export const fuzz = fuzzOf(KINDS, TAGS)
