import { expect, test } from 'vitest'
import { isTritswapError } from '../../src/errors.ts'
import { graphFiles } from '../../src/onnx/index.ts'

const levels = ['model_O1.onnx', 'model_O2.onnx', 'model_O4.onnx']
const widths = ['model_q2.onnx', 'model_q2f16.onnx', 'model_qint8_avx512_vnni.onnx', 'model_quint8_avx2.onnx']

test('other forms of a graph are left out and named', () => {
  const files = ['model.onnx', 'model_fp16.onnx', 'model_q4.onnx', ...levels, ...widths, 'model.onnx_data']
  expect(graphFiles(files, 'fp32')).toEqual({ graphs: ['model.onnx'], otherForms: [...levels, ...widths] })
  expect(graphFiles(files, 'fp16')).toEqual({ graphs: ['model_fp16.onnx'], otherForms: [] })
})

test('a graph that is there in one form alone is that form; several are refused by name', () => {
  expect(graphFiles(['model_O2.onnx', 'config.json'], 'fp32')).toEqual({
    graphs: ['model_O2.onnx'],
    otherForms: [],
  })
  let error: unknown
  try {
    graphFiles(levels, 'fp32')
  } catch (thrown) {
    error = thrown
  }
  expect(isTritswapError(error, 'input')).toBe(true)
  expect((error as Error).message).toMatch(/expected model\.onnx, found model_O1\.onnx, .*subfolder/)
})

test('modules of one model are no forms of each other', () => {
  const files = ['text_model.onnx', 'vision_model.onnx', 'embed_tokens.onnx', 'decoder_model_merged.onnx']
  expect(graphFiles([...files, 'decoder_model.onnx', 'decoder_with_past_model.onnx'], 'fp32').graphs).toEqual(
    [...files].sort(),
  )
})
