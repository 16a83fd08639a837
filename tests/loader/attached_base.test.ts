/** Which graph of a folder a session is made from anew. */
import { beforeEach, expect, test, vi } from 'vitest'
import { checkDtype, type Gpu } from '../../src/gpu/index.ts'
import { type AttachOptions, openBase } from '../../src/loader/attached_base.ts'
import type { ConfiguredSession } from '../../src/model/create_session.ts'
import type { GraphFile } from '../../src/onnx/index.ts'
import { floats, modelOf } from '../onnx/models.ts'

vi.mock('../../src/model/filled_base.ts', async (original) => ({
  ...(await original<typeof import('../../src/model/filled_base.ts')>()),
  hoistIntoVram: async (_gpu: Gpu, graphs: GraphFile[]) => ({ graphs }),
  readIntoVram: async () => ({ graphs: [] }),
}))
vi.mock('../../src/fetcher/receive.ts', () => ({ receiveFile: async () => ({}) }))

const folder = 'https://models.example/clip/'
const gpu = (f16 = true) => ({ features: { f16 } }) as Gpu
const fetches = { load: () => ({ done: Promise.resolve() }) } as never

const named = (names: string[]) => names.map((name) => ({ name }))
const graph = (inputs: string[], outputs: string[], initializer = [floats('w', [1], () => 1)]) =>
  modelOf({ input: named(inputs), output: named(outputs), initializer }).graph.bytes
const session = (inputNames: string[], outputNames: string[], dtype = 'fp32') =>
  ({ inputNames, outputNames, config: { dtype }, run: async () => ({}) }) as unknown as ConfiguredSession

const bothIn = ['input_ids', 'pixel_values', 'attention_mask']
const bothOut = ['logits_per_image', 'logits_per_text', 'text_embeds', 'image_embeds']
const textIn = ['input_ids', 'attention_mask']

let files: Map<string, BodyInit>
let asked: string[]

beforeEach(() => {
  files = new Map<string, BodyInit>([
    ['onnx/model.onnx', graph(bothIn, bothOut)],
    ['onnx/text_model.onnx', graph(textIn, ['text_embeds'])],
    ['onnx/vision_model.onnx', graph(['pixel_values'], ['image_embeds'])],
    ['onnx/own_name.onnx', graph(['x'], ['y'])],
  ])
  asked = []
  vi.stubGlobal('fetch', async (url: string | URL) => {
    const path = String(url).slice(folder.length)
    asked.push(path)
    const body = files.get(path)
    return body === undefined ? new Response(null, { status: 403 }) : new Response(body)
  })
})

async function opened(model: ConfiguredSession, options: AttachOptions = {}): Promise<string> {
  const { graphs } = await openBase(gpu(), { model }, { model: folder, ...options }, fetches)
  return graphs.model.graph.file
}

test('a session gets the graph that has its inputs and outputs', async () => {
  expect(await opened(session(textIn, ['text_embeds']))).toBe('onnx/text_model.onnx')
  expect(asked).not.toContain('onnx/model.onnx')
  expect(await opened(session(['pixel_values'], ['image_embeds']))).toBe('onnx/vision_model.onnx')
  expect(await opened(session(bothIn, bothOut))).toBe('onnx/model.onnx')
  files.set('onnx/model.onnx', graph(textIn, ['text_embeds']))
  files.delete('onnx/text_model.onnx')
  expect(await opened(session(textIn, ['text_embeds']))).toBe('onnx/model.onnx')
  files.set('onnx/text_model.onnx', '<!doctype html>')
  expect(await opened(session(textIn, ['text_embeds']))).toBe('onnx/model.onnx')
})

test('another graph is never attached: the message says which were tried, and the options that name one', async () => {
  const own = session(['x'], ['y'])
  await expect(opened(own)).rejects.toMatchObject({
    tag: 'input',
    message: expect.stringMatching(
      /onnx\/model\.onnx, onnx\/text_model\.onnx.*modelFileName or graphs\.model/,
    ),
  })
  expect(await opened(own, { modelFileName: 'own_name' })).toBe('onnx/own_name.onnx')
  const text = graph(textIn, ['text_embeds'])
  await expect(opened(own, { graphs: { model: text } })).rejects.toMatchObject({ tag: 'input' })
  expect(await opened(session(textIn, ['text_embeds']), { graphs: { model: text } })).toBe('model.onnx')
})

test('a folder without graphs is told by its first answer', async () => {
  files.clear()
  await expect(opened(session(textIn, ['logits']))).rejects.toMatchObject({
    tag: 'network',
    fields: { url: `${folder}onnx/model.onnx`, status: 403 },
  })
})

test('a graph that lists its initializers as inputs is recognized', async () => {
  files.set('onnx/model.onnx', graph(['x', 'w'], ['y']))
  expect(await opened(session(['x'], ['y']))).toBe('onnx/model.onnx')
})

test('a prepared folder says where its graphs are', async () => {
  files.set(
    'tritswap.json',
    JSON.stringify({
      version: 1,
      weights: { file: 'weights.trit', bytes: 1, rootHash: '0'.repeat(64) },
      graphs: ['graphs/model.onnx', 'graphs/text_model.onnx'],
      dtype: 'fp32',
    }),
  )
  files.set('graphs/model.onnx', graph([...bothIn, 'w'], bothOut, []))
  files.set('graphs/text_model.onnx', graph([...textIn, 'w'], ['text_embeds'], []))
  expect(await opened(session(textIn, ['text_embeds']))).toBe('graphs/text_model.onnx')
  expect(await opened(session(bothIn, bothOut))).toBe('graphs/model.onnx')
})

test('a dtype that the GPU cannot compute in is refused before anything of it is fetched', async () => {
  for (const dtype of ['fp16', 'q4f16']) {
    const sessions = { model: session(textIn, ['text_embeds'], dtype) }
    await expect(openBase(gpu(false), sessions, { model: folder }, fetches)).rejects.toMatchObject({
      tag: 'webgpu',
      fields: { missing: 'shader-f16' },
    })
  }
  expect(asked).toEqual(['tritswap.json', 'tritswap.json'])
  for (const dtype of ['fp32', 'q4', 'q8']) checkDtype({ f16: false }, dtype)
})
