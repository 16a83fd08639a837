import { expect, test } from 'vitest'
import { TextModel } from '../../src/engine/text_model.ts'
import { requestGpu } from '../../src/gpu/index.ts'
import { LONG } from '../tier.ts'

const FOLDER = '/tests/fixtures/tiny_chat/'
const ORT = {
  mjs: '/ort/ort-wasm-simd-threaded.asyncify.mjs',
  wasm: '/ort/ort-wasm-simd-threaded.asyncify.wasm',
}
const SCHEMA = {
  type: 'object',
  properties: { tool: { enum: ['add', 'find'] }, n: { type: 'integer', minimum: 0, maximum: 99 } },
  required: ['tool', 'n'],
}

test.runIf(LONG)(
  'the library that browsers fetch keeps an answer to its schema, over a cache on the GPU',
  async () => {
    const { device } = await requestGpu()
    const model = await TextModel.load({
      files: async (path) => {
        const response = await fetch(FOLDER + path)
        // The development server answers with a page where there is no file.
        return response.headers.get('content-type')?.startsWith('text/html') ? undefined : response
      },
      ort: ORT,
      grammar: new URL('/ort/grammar.mjs', location.href).href,
      device,
      dtype: 'fp32',
    })
    const cache = model.newCache()
    const { ids } = model.encodePrompt([{ role: 'user', content: 'Count.' }], {})
    let text = ''
    const onToken = (_token: number, piece: string) => {
      text += piece
      return false
    }
    const responseFormat = { type: 'json_schema', schema: SCHEMA } as const
    const options = { maxNewTokens: 40, temperature: 1, seed: 5, responseFormat }
    expect(await model.generate({ ids }, model.sessions, onToken, options, { cache })).toBe('stop')
    expect(text).toMatch(/^\{"tool": "(add|find)", "n": \d\d?\}$/)
    await cache.clear()
    await model.dispose()
    device.destroy()
  },
)
