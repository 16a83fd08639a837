/**
 * Hostile safetensors headers, shard indexes and adapter_config.json, from a seed. Every case ends in a result or in one
 * of our errors.
 *
 * @module
 */
import { adapterTaskVector } from '../../src/compress/adapter.ts'
import { openCheckpoint } from '../../src/compress/checkpoint.ts'
import { readFloats, readSafetensors } from '../../src/compress/safetensors.ts'
import { isTritswapError } from '../../src/errors.ts'
import { memorySource } from '../../src/source/memory.ts'
import { randomFrom } from '../format/samples.ts'
import { memoryFolder, safetensors } from './checkpoints.ts'

type Random = () => number
const below = (random: Random, n: number) => Math.floor(random() * n)
const pick = <T>(random: Random, choices: readonly T[]): T => choices[below(random, choices.length)]

/** Values and texts that readers stumble over. */
const VALUES = [
  null,
  true,
  false,
  0,
  -0,
  1,
  2,
  -1,
  0.5,
  1e308,
  2 ** 31,
  2 ** 53,
  2 ** 64,
  '',
  'w',
  '__proto__',
  '__metadata__',
  'LORA',
  'IA3',
  'lora',
  'F32',
  'F8_E4M3',
  '../../etc/passwd',
  '\u0000',
  '\u001b[2J',
  '(a+)+X',
  '(?i)q',
  '\\Z',
  '[',
  'a{,2}',
  '(?=x)',
  'x'.repeat(600),
  [],
  [0],
  [[]],
  {},
  { a: 1 },
]

/** A copy with something exchanged, left out or added in one of its places. */
function mutate(random: Random, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || random() < 0.1) return pick(random, VALUES)
  const entries = Object.entries(value)
  if (Array.isArray(value)) {
    const copy = [...value]
    const at = below(random, copy.length + 1)
    if (random() < 0.3) copy.splice(at, 1)
    else copy[at] = mutate(random, copy[at])
    return copy
  }
  const at = below(random, entries.length + 1)
  if (at === entries.length) return { ...value, [String(pick(random, VALUES))]: pick(random, VALUES) }
  const [key, inner] = entries[at]
  const rest = Object.fromEntries(entries.filter((_, i) => i !== at))
  if (random() < 0.1) return rest
  return { ...rest, [random() < 0.1 ? String(pick(random, VALUES)) : key]: mutate(random, inner) }
}

/** Bytes of JSON, at times cut, repeated or with a byte changed. */
function jsonBytes(random: Random, value: unknown): Uint8Array<ArrayBuffer> {
  const text = JSON.stringify(value) ?? 'null'
  const choice = random()
  const hostile =
    choice < 0.05
      ? text.slice(0, below(random, text.length + 1))
      : choice < 0.08
        ? pick(random, ['[', '{"a":', '"', '[[],']).repeat(below(random, 5000)) + text
        : text
  const bytes = new TextEncoder().encode(hostile) as Uint8Array<ArrayBuffer>
  if (choice > 0.95 && bytes.length > 0) bytes[below(random, bytes.length)] = below(random, 256)
  return bytes
}

const mutated = (random: Random, value: unknown) => {
  let result = value
  for (let count = below(random, 4); count > 0; count--) result = mutate(random, result)
  return result
}

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

/** Runs cases from `from` while `proceed` says so; each depends on the seed and its index alone. */
export async function fuzz(seed: number, proceed: (index: number) => boolean, from = 0) {
  const outcomes: Record<string, number> = {}
  const failures: { index: number; error: unknown }[] = []
  let at = from
  for (; proceed(at); at++) {
    const random = randomFrom(seed * 1_000_003 + at)
    let outcome = 'read'
    try {
      await KINDS[at % KINDS.length](random)
    } catch (error) {
      outcome = isTritswapError(error) && TAGS.includes(error.tag) ? error.tag : 'failure'
      if (outcome === 'failure') failures.push({ index: at, error })
    }
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
  }
  return { cases: at - from, outcomes, failures }
}
