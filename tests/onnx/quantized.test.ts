import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { NodeSession } from '../../src/cli/node_session.ts'
import type { TensorValues } from '../../src/reference/index.ts'
import { rangeOf } from '../../src/reference/index.ts'
import { difference, prepared, runGraph, SHARED, ZOO } from './graphs.ts'

const CASES = [
  { model: 'llama-tiny', subfolder: 'onnx' },
  { model: 'llama-tiny', subfolder: 'onnx-genai' },
  { model: 'qwen2-tiny', subfolder: 'onnx-genai' },
  { model: 'bert-tiny-classify', subfolder: 'onnx' },
]

describe.each(CASES)('q4 of $model/$subfolder', ({ model, subfolder }) => {
  const folder = join(ZOO, model)
  const file = `${subfolder}/model_q4.onnx`

  test('every weight becomes a float input, with the outputs of the quantized graph', async () => {
    const base = await prepared(folder, { subfolder, dtype: 'q4', storage: 'f32' })
    expect(base.unmatched).toEqual([])
    const plain = await runGraph(model, join(folder, file))
    const hoisted = await runGraph(model, join(base.out, file), { reference: base.weights, file })
    expect(difference(plain, hoisted)).toBeLessThan(2e-2 * rangeOf(plain.logits.data))
  })

  test('kept quantized, integers and scales are inputs, and the outputs those of the quantized graph', async () => {
    const base = await prepared(folder, { subfolder, dtype: 'q4', quantized: 'keep' })
    const plain = await runGraph(model, join(folder, file))
    const hoisted = await runGraph(model, join(base.out, file), { reference: base.weights, file })
    const raw = base.weights.bindings.graphs[0].inputs.filter((input) => input.raw !== undefined)
    expect(raw.length).toBe(2 * base.weights.head.table.tensors.filter(isWholeInput).length)
    expect(difference(plain, hoisted)).toBe(0)
    function isWholeInput({ codec, name }: { codec: string; name: string }) {
      return codec === 'blocks' && raw.some(({ parts }) => parts[0].tensor === name)
    }
  })
})

test('either way the weights file is as small as the graph that was quantized', async () => {
  const folder = join(SHARED, 'demo-model/base')
  const { size } = await stat(join(folder, 'onnx/model_q4.onnx'))
  for (const quantized of ['float', 'keep'] as const) {
    const { manifest } = await prepared(folder, { dtype: 'q4', quantized })
    // The embedding stays as it was, and f16 holds it.
    expect(manifest.weights.bytes).toBeLessThan(size)
  }
})

test('a tied head that is quantized beside a float embedding keeps its own values, and follows its changes', async () => {
  const folder = join(SHARED, 'demo-model/base')
  const file = 'onnx/model_q4.onnx'
  const base = await prepared(folder, { dtype: 'q4', storage: 'f32' })
  const tied = base.weights.head.table.tensors.filter(({ target }) => target === 'model.embed_tokens.weight')
  expect(tied.length).toBe(2)
  const tokens = [5, 300, 41, 2000, 7]
  const logitsOf = async (path: string, changed?: TensorValues) => {
    const session = await NodeSession.create(await readFile(path))
    const weights = changed === undefined ? {} : session.weights(base.weights.feeds(file, changed))
    const { data } = await session.logits(tokens, weights)
    await session.release()
    return data
  }
  const plain = await logitsOf(join(folder, file))
  const hoisted = await logitsOf(join(base.out, file), new Map())
  expect(distance(plain, hoisted) / rangeOf(plain)).toBeLessThan(1e-3)
  const embedding = base.weights.tensors.get('model.embed_tokens.weight')!
  const doubled = new Map([['model.embed_tokens.weight', embedding.map((value) => 2 * value)]])
  expect(distance(plain, await logitsOf(join(base.out, file), doubled)) / rangeOf(plain)).toBeGreaterThan(0.1)
})

function distance(a: Float32Array, b: Float32Array): number {
  return a.reduce((max, value, i) => Math.max(max, Math.abs(value - b[i])), 0)
}
