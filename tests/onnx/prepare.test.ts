import { mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { TensorValues } from '../../src/reference/index.ts'
import {
  checkpointValues,
  difference,
  lastDifference,
  prepared,
  runGraph,
  SHARED,
  torchOutputs,
  ZOO,
} from './graphs.ts'

/** f32 sums in another order: what the plain sessions themselves differ from torch by. */
const TOLERANCE = 1e-3

const MODELS = [
  { model: 'llama-tiny', subfolder: 'onnx' },
  { model: 'llama-tiny', subfolder: 'onnx-genai' },
  { model: 'qwen2-tiny', subfolder: 'onnx' },
  { model: 'qwen2-tiny', subfolder: 'onnx-genai' },
  { model: 'gpt2-tiny', subfolder: 'onnx' },
  { model: 'bert-tiny-classify', subfolder: 'onnx' },
  { model: 'vit-tiny', subfolder: 'onnx' },
]

describe.each(MODELS)('$model/$subfolder', ({ model, subfolder }) => {
  test.each([undefined, 'none'])('hoisted outputs equal plain ones (checkpoint: %s)', async (checkpoint) => {
    const folder = join(ZOO, model)
    const base = await prepared(folder, { subfolder, checkpoint })
    const file = `${subfolder}/model.onnx`
    const plain = await runGraph(model, join(folder, file))
    const hoisted = await runGraph(model, join(base.out, file), { reference: base.weights, file })
    expect(base.unmatched).toEqual([])
    expect(difference(plain, hoisted)).toBeLessThan(1e-5)
    const torch = await torchOutputs(model, 'base')
    expect(lastDifference(hoisted, torch)).toBeLessThan(TOLERANCE)

    const changed = await checkpointValues(join(folder, 'finetuned/model.safetensors'))
    const tuned = await runGraph(model, join(base.out, file), { reference: base.weights, file, changed })
    const torchTuned = await torchOutputs(model, 'finetuned')
    expect(lastDifference(tuned, torchTuned)).toBeLessThan(TOLERANCE)
  })
})

test('an encoder and a merged decoder whose If branches share weights', async () => {
  const folder = join(ZOO, 't5-tiny')
  const base = await prepared(folder)
  const encoder = 'onnx/encoder_model.onnx'
  const decoder = 'onnx/decoder_model_merged.onnx'
  const runBoth = async (root: string, reference?: typeof base.weights, changed?: TensorValues) => {
    const at = (file: string) => reference && { reference, file, changed }
    const { last_hidden_state: states } = await runGraph('t5-tiny', join(root, encoder), at(encoder))
    return runGraph('t5-tiny', join(root, decoder), at(decoder), { encoder_hidden_states: states })
  }
  const plain = await runBoth(folder)
  const hoisted = await runBoth(base.out, base.weights)
  expect(base.unmatched).toEqual([])
  expect(difference(plain, hoisted)).toBeLessThan(1e-5)
  const torch = await torchOutputs('t5-tiny', 'base')
  expect(lastDifference(hoisted, torch)).toBeLessThan(TOLERANCE)

  const changed = await checkpointValues(join(folder, 'finetuned/model.safetensors'))
  const tuned = await runBoth(base.out, base.weights, changed)
  const torchTuned = await torchOutputs('t5-tiny', 'finetuned')
  expect(lastDifference(tuned, torchTuned)).toBeLessThan(TOLERANCE)
})

test('a copied configuration does not speak of data files that the prepared graph has no more', async () => {
  const from = await mkdtemp(join(tmpdir(), 'tritswap-external-'))
  await symlink(join(ZOO, 'llama-tiny/onnx-genai'), join(from, 'onnx'))
  const config = JSON.parse(await readFile(join(ZOO, 'llama-tiny/config.json'), 'utf8'))
  const hints = { use_external_data_format: { 'model.onnx': 1 }, kv_cache_dtype: { fp16: 'float16' } }
  await writeFile(join(from, 'config.json'), JSON.stringify({ ...config, 'transformers.js_config': hints }))
  const { out } = await prepared(from, { checkpoint: 'none' })
  await rm(from, { recursive: true })
  const { kv_cache_dtype } = hints
  expect(JSON.parse(await readFile(join(out, 'config.json'), 'utf8'))).toEqual({
    ...config,
    'transformers.js_config': { kv_cache_dtype },
  })
})

test('the demo model', async () => {
  const base = await prepared(join(SHARED, 'demo-model/base'))
  expect(base.inputs).toBe(57)
  expect(base.tensors).toBe(56)
  expect(base.manifest.weights.bytes).toBeLessThan(11e6)
})
