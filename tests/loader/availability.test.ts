import { afterEach, describe, expect, test, vi } from 'vitest'
import { ExpertLoader } from '../../src/loader/index.ts'
import { fakePage } from './fake_page.ts'

afterEach(() => vi.unstubAllGlobals())

const withGpu = (features: string[] = []) => {
  const gpu = { requestAdapter: async () => ({ features: new Set(features) }) }
  vi.stubGlobal('navigator', { gpu, hardwareConcurrency: 2 })
}
const answerFor = (options: Partial<Parameters<typeof ExpertLoader.availability>[0]> = {}) =>
  ExpertLoader.availability({ model: './m', ...options })

describe('on a server', () => {
  test('nothing is available, and why', async () => {
    expect(await answerFor()).toEqual({
      status: 'unavailable',
      reason: expect.stringContaining('browser'),
    })
  })

  test('create is refused with a typed error', async () => {
    await expect(ExpertLoader.create({ model: './m' })).rejects.toMatchObject({
      name: 'TritswapError',
      tag: 'unsupported',
      message: expect.stringContaining('useEffect'),
    })
  })
})

describe('on a page', () => {
  test('without WebGPU or an adapter', async () => {
    fakePage()
    vi.stubGlobal('navigator', {})
    expect(await answerFor()).toEqual({ status: 'unavailable', reason: expect.stringContaining('WebGPU') })
    vi.stubGlobal('navigator', { gpu: { requestAdapter: async () => null } })
    expect(await answerFor()).toEqual({ status: 'unavailable', reason: expect.stringContaining('adapter') })
  })

  test('with a GPU that cannot compute in the dtype', async () => {
    fakePage()
    withGpu()
    const { fetch } = globalThis
    const prepared = { version: 1, weights: { file: 'w', bytes: 1, rootHash: '0'.repeat(64) }, dtype: 'fp16' }
    vi.stubGlobal('fetch', (url: string, init?: RequestInit) =>
      url.endsWith('tritswap.json') ? Response.json(prepared) : fetch(url, init),
    )
    expect(await answerFor()).toMatchObject({ status: 'unavailable', reason: expect.stringContaining('f16') })
    withGpu(['shader-f16'])
    expect(await answerFor()).toEqual({ status: 'downloadable', bytes: 51 })
  })

  test('downloadable, with all bytes that come', async () => {
    fakePage()
    withGpu()
    // The weights' 1 byte; ten each of a tokenizer and of four files of the library.
    expect(await answerFor()).toEqual({ status: 'downloadable', bytes: 51 })
  })

  test('a folder without anything in it', async () => {
    const page = fakePage()
    withGpu()
    vi.stubGlobal('fetch', async (url: string, { method }: RequestInit = {}) =>
      method === 'HEAD' && !url.includes('/m/') ? page.heads(url) : new Response(null, { status: 404 }),
    )
    expect(await answerFor()).toEqual({ status: 'unavailable', reason: expect.stringContaining('no graph') })
  })

  test('downloading while a loader of the page loads it, available once it is there, and no longer', async () => {
    const page = fakePage()
    withGpu()
    let go = () => {}
    page.beforeOpen = new Promise<void>((resolve) => {
      go = resolve
    })
    const loading = ExpertLoader.create({ model: './m' })
    expect(await answerFor()).toEqual({ status: 'downloading', bytes: 51 })
    expect(await answerFor({ model: './other' })).toMatchObject({ status: 'downloadable' })
    go()
    const loader = await loading
    expect(await answerFor()).toEqual({ status: 'available', bytes: 0 })
    await loader.dispose()
    expect(await answerFor()).toMatchObject({ status: 'downloadable' })
  })

  test('rejects with the reason of its signal alone', async () => {
    fakePage()
    withGpu()
    const controller = new AbortController()
    controller.abort(new DOMException('enough', 'AbortError'))
    vi.stubGlobal('fetch', async (_: string, { signal }: RequestInit = {}) => {
      signal?.throwIfAborted()
      return new Response(null, { status: 404 })
    })
    await expect(answerFor({ signal: controller.signal })).rejects.toThrow('enough')
  })
})
