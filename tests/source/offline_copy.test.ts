import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { TritswapError } from '../../src/errors.ts'
import { openChunkCache } from '../../src/source/cache.ts'
import { COPIES_CACHE, fileWithCopy, isCopy } from '../../src/source/offline_copy.ts'
import { memoryCacheStorage } from './memory_cache_storage.ts'

const url = 'https://models.example/demo/tritswap.json'
let { storage } = memoryCacheStorage()
beforeEach(() => {
  storage = memoryCacheStorage().storage
})
afterEach(() => vi.unstubAllGlobals())

/** Nobody waits for the copy of an answer but these tests. */
async function isQuantized(text: string): Promise<void> {
  await vi.waitFor(async () => {
    const copy = await (await storage.open(COPIES_CACHE)).match(url)
    expect(await copy?.text()).toBe(text)
  })
}

async function answers(text: string): Promise<string> {
  const response = await fileWithCopy(url, 'unreachable', async () => new Response(text), storage)
  const found = await response.text()
  await isQuantized(found)
  return found
}

const fails = (error: Error) => fileWithCopy(url, 'unreachable', () => Promise.reject(error), storage)
const unreachable = new TypeError('Failed to fetch')

test('the server decides as long as it answers, and its last good answer is there when it does not', async () => {
  await expect(fails(unreachable)).rejects.toBe(unreachable)
  expect(await answers('old')).toBe('old')
  expect(await answers('new')).toBe('new')
  expect(await (await fails(unreachable)).text()).toBe('new')
  const tired = new TritswapError('network', 'Cannot fetch it: the connection failed', { fields: { url } })
  expect(await (await fails(tired)).text()).toBe('new')
  const gone = await fileWithCopy(
    url,
    'unreachable',
    async () => new Response('no', { status: 404 }),
    storage,
  )
  expect(gone.status).toBe(404)
  expect(await (await fails(unreachable)).text()).toBe('new')
})

test('a refusal and an abort are no reason to take the copy', async () => {
  await answers('old')
  for (const error of [
    new TritswapError('network', 'Cannot fetch it: 403', { fields: { url, status: 403 } }),
    new TritswapError('format', 'Cannot read it'),
    new DOMException('Enough', 'AbortError'),
  ])
    await expect(fails(error)).rejects.toBe(error)
})

test('a browser that knows that it is offline asks nobody', async () => {
  await answers('old')
  vi.stubGlobal('navigator', { onLine: false })
  expect(await answers('new')).toBe('old')
})

test('what belongs to a copy is a copy, what belongs to a new file is not', async () => {
  await answers('old')
  const copy = await fileWithCopy(url, 'first', () => Promise.reject(unreachable), storage)
  expect([await copy.text(), isCopy(copy)]).toEqual(['old', true])
  await expect(fileWithCopy(url, 'never', () => Promise.reject(unreachable), storage)).rejects.toBe(
    unreachable,
  )
  const sent = await fileWithCopy(url, 'never', async () => new Response('new'), storage)
  expect([await sent.text(), isCopy(sent)]).toEqual(['new', false])
  await isQuantized('new')
})

test('clearing the cache takes the copies along', async () => {
  await answers('old')
  await openChunkCache({ storage }).clear()
  await expect(fails(unreachable)).rejects.toBe(unreachable)
})

test('without storage the server is all there is', async () => {
  expect(
    await (await fileWithCopy(url, 'unreachable', async () => new Response('it'), undefined)).text(),
  ).toBe('it')
  const refuses = { open: () => Promise.reject(new DOMException('No', 'SecurityError')) }
  const answer = await fileWithCopy(
    url,
    'unreachable',
    async () => new Response('it'),
    refuses as unknown as CacheStorage,
  )
  expect(await answer.text()).toBe('it')
})
