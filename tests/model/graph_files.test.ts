import { describe, expect, test } from 'vitest'
import { isTritswapError } from '../../src/errors.ts'
import { attachExperts } from '../../src/loader/attach.ts'
import { moduleOf, preparedGraph } from '../../src/model/graph_files.ts'
import { graphPath } from '../../src/model/graph_path.ts'
import { folderName, folderUrl } from '../../src/source/model_folder.ts'

const PAGE = 'https://site.example/app/index.html'

test.each([
  ['./models/demo', 'https://site.example/app/models/demo/', 'demo'],
  ['/models/demo//', 'https://site.example/models/demo/', 'demo'],
  ['https://cdn.example/m', 'https://cdn.example/m/', 'm'],
  ['hf:owner/name', 'https://huggingface.co/owner/name/resolve/main/', 'owner/name'],
  ['hf:owner/name@refs/pr/1', 'https://huggingface.co/owner/name/resolve/refs%2Fpr%2F1/', 'owner/name'],
  ['hf:owner/name@v1.0', 'https://huggingface.co/owner/name/resolve/v1.0/', 'owner/name'],
  ['hf:owner', undefined, undefined],
])('model %s', (model, url, name) => {
  if (url === undefined) {
    expect(() => folderUrl(model, PAGE)).toThrow(/Cannot find hf:/)
    return
  }
  expect(folderUrl(model, PAGE)).toBe(url)
  expect(folderName(url)).toBe(name)
})

test('graphs are where transformers.js looks for them', () => {
  expect(graphPath('model', 'fp32')).toBe('onnx/model.onnx')
  expect(graphPath('model', 'q8', 'graphs')).toBe('graphs/model_quantized.onnx')
  expect(graphPath('decoder_model_merged', 'q4f16', '')).toBe('decoder_model_merged_q4f16.onnx')
  expect(() => graphPath('model', 'f32')).toThrow(/expected one of fp32, fp16/)
  expect(moduleOf('model', ['model'])).toBe('model')
  expect(moduleOf('model', ['model', 'decoder_model_merged'])).toBe('encoder_model')
  expect(moduleOf('vision_encoder', ['vision_encoder', 'decoder_model_merged'])).toBe('vision_encoder')
})

test('a prepared folder says where its graph lies', () => {
  const at = (...graphs: string[]) => preparedGraph('model', { dtype: 'q4', graphs })
  expect(at()).toEqual({ path: 'onnx/model_q4.onnx', subfolder: 'onnx' })
  expect(at('graphs/a/model_q4.onnx')).toEqual({ path: 'graphs/a/model_q4.onnx', subfolder: 'graphs/a' })
  expect(at('x/own_model_q4.onnx', 'model_q4.onnx')).toEqual({ path: 'model_q4.onnx', subfolder: '' })
})

describe('attachExperts refuses', () => {
  const refused = async (target: object) => {
    const error = await attachExperts(target).catch((reason) => reason)
    expect(isTritswapError(error, 'input')).toBe(true)
    return (error as Error).message
  }

  test('what has no sessions', async () => {
    expect(await refused({})).toMatch(/expected a transformers\.js model, a pipeline or/)
    expect(await refused({ model: { sessions: {} } })).toMatch(/expected a transformers\.js model/)
  })
})
