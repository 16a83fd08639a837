import { expect, test } from 'vitest'
import { TextModel } from '../../src/engine/text_model.ts'
import { requestGpu } from '../../src/gpu/index.ts'

const FOLDER = '/tests/fixtures/tiny_chat/'
const ORT = {
  mjs: '/ort/ort-wasm-simd-threaded.asyncify.mjs',
  wasm: '/ort/ort-wasm-simd-threaded.asyncify.wasm',
}

test('a cache on the GPU is cut where what follows is another text, and read on from there', async () => {
  const { device } = await requestGpu()
  const model = await TextModel.load({
    files: async (path) => {
      const response = await fetch(FOLDER + path)
      // The development server answers with a page where there is no file.
      return response.headers.get('content-type')?.startsWith('text/html') ? undefined : response
    },
    ort: ORT,
    device,
    dtype: 'fp32',
  })
  const cache = model.newCache()
  const generate = async (ids: readonly number[], maxNewTokens: number) => {
    const written: { token: number; read: number }[] = []
    const onToken = (token: number, _text: string, read: number) => {
      written.push({ token, read })
      return false
    }
    await model.generate({ ids: [...ids] }, model.sessions, onToken, { maxNewTokens }, { cache })
    return { tokens: written.map(({ token }) => token), read: written[0].read }
  }
  const { ids } = model.encodePrompt([{ role: 'user', content: 'Count from one to nine.' }], {})
  const first = await generate(ids, 20)
  expect(first.read).toBe(ids.length)
  expect(model.decode(first.tokens)).toMatch(/^one, two, three,/)
  const tensor = () => Object.values(cache.tensors)[0]
  expect(tensor().location).toBe('gpu-buffer')
  // Again after the same prompt, and from the middle of the answer.
  expect(await generate(ids, 20)).toEqual({ tokens: first.tokens, read: 1 })
  const middle = await generate([...ids, ...first.tokens.slice(0, 5)], 15)
  expect(middle).toEqual({ tokens: first.tokens.slice(5), read: 1 })
  expect(tensor().dims[2]).toBe(cache.length)
  await cache.clear()
  expect(Object.keys(cache.tensors)).toEqual([])
  expect((await generate(ids, 20)).tokens).toEqual(first.tokens)
  await cache.clear()
  await model.dispose()
  device.destroy()
})
