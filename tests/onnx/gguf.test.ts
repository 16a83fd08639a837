import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { prepareModel } from '../../src/cli/prepare_model.ts'
import { openPreparedBase, openPreparedModel } from '../../src/cli/prepared_base.ts'
import type { BaseBindings } from '../../src/format/index.ts'
import { type GgufEntry, ggufBlocks, ggufFile } from '../compress/gguf_file.ts'
import { tagThrownBy } from '../format/samples.ts'
import { checkpointValues, lastDifference, outputsOf, prepared, torchOutputs, ZOO } from './graphs.ts'

const MODEL = join(ZOO, 'llama-tiny')
const LLAMA_CPP: readonly (readonly [RegExp, string])[] = [
  [/^model\.layers\.(\d+)\./, 'blk.$1.'],
  [/self_attn\.([qkv])_proj/, 'attn_$1'],
  [/self_attn\.o_proj/, 'attn_output'],
  [/mlp\.(gate|up|down)_proj/, 'ffn_$1'],
  [/input_layernorm/, 'attn_norm'],
  [/post_attention_layernorm/, 'ffn_norm'],
  [/^model\.embed_tokens/, 'token_embd'],
  [/^model\.norm/, 'output_norm'],
  [/^lm_head/, 'output'],
]

let folder: string
let values: Awaited<ReturnType<typeof checkpointValues>>
const {
  num_attention_heads: heads,
  num_key_value_heads: kvHeads,
  hidden_size: width,
} = JSON.parse(await readFile(join(MODEL, 'config.json'), 'utf8'))

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tritswap-gguf-'))
  values = await checkpointValues(join(MODEL, 'model.safetensors'))
})
afterAll(() => rm(folder, { recursive: true }))

/** The model as llama.cpp's converter writes it: matrices of one type, vectors in f32. */
async function gguf(type: 'F32' | 'Q4_1' | 'Q8_0', left: readonly string[] = []): Promise<string> {
  const tensors: Record<string, GgufEntry> = {}
  for (const [name, own] of values) {
    if (left.includes(name)) continue
    const renamed = LLAMA_CPP.reduce((text, [from, to]) => text.replace(from, to), name)
    const shape = name.endsWith('norm.weight') ? [width] : [own.length / colsOf(name), colsOf(name)]
    const stored = interleaved(renamed, own)
    const asFloats = type === 'F32' || shape.length === 1
    const bytes = asFloats ? new Uint8Array(Float32Array.from(stored).buffer) : ggufBlocks(type, stored)
    tensors[renamed] = { shape, type: asFloats ? 0 : type === 'Q4_1' ? 3 : 8, bytes }
  }
  const path = join(folder, `${type}${left.length}.gguf`)
  const metadata = {
    'general.architecture': 'llama',
    'llama.attention.head_count': heads,
    'llama.attention.head_count_kv': kvHeads,
  }
  await writeFile(path, ggufFile(metadata, tensors))
  return path
}

function colsOf(name: string): number {
  const down = values.get('model.layers.0.mlp.down_proj.weight')!.length / width
  return name.includes('down_proj') ? down : width
}

/** Rows of the two halves of each head in turns. */
function interleaved(name: string, own: ArrayLike<number>): ArrayLike<number> {
  const [, which] = /attn_([qk])\.weight$/.exec(name) ?? []
  if (which === undefined) return own
  const count = which === 'q' ? heads : kvHeads
  const half = own.length / width / count / 2
  return Float32Array.from(own, (_, i) => {
    const row = Math.floor(i / width)
    const inHead = row % (2 * half)
    const from = row - inHead + (inHead % 2) * half + Math.floor(inHead / 2)
    return own[from * width + (i % width)]
  })
}

test('floats of a GGUF give torch’s outputs: names and rows are those of the checkpoint', async () => {
  const base = await prepared(MODEL, { subfolder: 'onnx-genai', weights: await gguf('F32') })
  expect(
    lastDifference(await outputsOf('llama-tiny', base), await torchOutputs('llama-tiny', 'base')),
  ).toBeLessThan(1e-4)
  for (const [name, own] of values) {
    const found = base.weights.tensors.get(name)
    expect([name, found?.length, found?.findIndex((value, i) => value !== own[i])]).toEqual([
      name,
      own.length,
      -1,
    ])
  }
})

test('quantized ones stay as they are, in parts, for graphs of two dtypes', async () => {
  const out = join(folder, 'out')
  const { manifest } = await prepareModel(MODEL, out, {
    subfolder: 'onnx-genai',
    weights: await gguf('Q4_1'),
    dtype: 'fp32',
    otherDtypes: ['fp16'],
    partBytes: 100_000,
  })
  const { bytes, parts = [] } = manifest.weights
  expect(parts.length).toBeGreaterThan(2)
  expect(parts.reduce((sum, part) => sum + part.bytes, 0)).toBe(bytes)
  expect((await readdir(out)).filter((file) => file.startsWith('weights.trit'))).toEqual(
    parts.map(({ file }) => file),
  )
  expect(manifest).toMatchObject({ dtype: 'fp32', dtypes: ['fp32', 'fp16'] })
  const { graph, fit, close } = await openPreparedBase(out)
  const { weights } = fit
  expect(graph.file).toBe('onnx-genai/model.onnx')
  expect((await openPreparedModel(out)).graphs).toHaveLength(1)
  const filesOf = ({ graphs }: BaseBindings) => graphs.map(({ file }) => file)
  expect(filesOf(weights.head.table.bindings as BaseBindings)).toEqual([
    'onnx-genai/model.onnx',
    'onnx-genai/model_fp16.onnx',
  ])
  // Experts are bound to the graph that is run.
  expect(filesOf(weights.bindings)).toEqual(['onnx-genai/model.onnx'])
  const { codec, minimums } = weights.head.table.tensors.find(({ name }) => name.includes('q_proj')) as {
    codec: string
    minimums?: boolean
  }
  expect([codec, minimums]).toEqual(['blocks', true])
  for (const [name, own] of values) {
    const found = await weights.values(name)
    const largest = own.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
    const error = own.reduce((most, value, i) => Math.max(most, Math.abs(value - found[i])), 0)
    expect(error / largest, name).toBeLessThan(0.08)
  }
  await close()
})

test('the weights of another model are refused', async () => {
  const missing = await gguf('Q8_0', ['model.norm.weight'])
  const prepare = (path: string) =>
    tagThrownBy(() => prepareModel(MODEL, join(folder, 'none'), { subfolder: 'onnx-genai', weights: path }))
  expect(await prepare(missing)).toBe('input')
  expect(await prepare(join(MODEL, 'model.safetensors'))).toBe('format')
})
