import { beforeEach, describe, expect, test, vi } from 'vitest'
import { type ChunkCache, openChunkCache } from '../../src/source/cache.ts'
import { fileWithCopy } from '../../src/source/offline_copy.ts'
import { type MemoryCacheStorage, memoryCacheStorage } from './memory_cache_storage.ts'

const CHUNK = 1000
let memory: MemoryCacheStorage
let clock: number

beforeEach(() => {
  memory = memoryCacheStorage()
  clock = 0
})

const open = (budget = 1e9): ChunkCache =>
  openChunkCache({ storage: memory.storage, budget, now: () => ++clock })

/** Stores `chunks` of a file of `of` chunks, the last one half as long. */
async function store(cache: ChunkCache, rootHash: string, chunks: number[], of: number): Promise<boolean> {
  const file = cache.open(rootHash)
  const layout = {
    name: `${rootHash}.trit`,
    headBytes: 100,
    payloadBytes: of * CHUNK - CHUNK / 2,
    chunkBytes: CHUNK,
  }
  if (!(await file.begin(layout, new Uint8Array(100)))) return false
  for (const index of chunks)
    await file.write(index, new Uint8Array(index === of - 1 ? CHUNK / 2 : CHUNK).fill(index))
  return true
}

describe('chunk cache', () => {
  test('gives back what was stored, to any page', async () => {
    await store(open(), 'aa', [0, 2], 3)
    const file = open().open('aa')
    expect(await file.chunks()).toEqual(new Set([0, 2]))
    expect(await file.read(2)).toEqual(new Uint8Array(CHUNK / 2).fill(2))
    expect(await file.read(1)).toBeUndefined()
    expect((await file.head())?.length).toBe(100)
    expect(await open().open('bb').head()).toBeUndefined()
  })

  test('bytes may be transferred away as soon as the write has begun', async () => {
    const cache = open()
    await store(cache, 'aa', [], 3)
    const file = cache.open('aa')
    await file.begin(
      { name: 'a', headBytes: 100, payloadBytes: 2500, chunkBytes: CHUNK },
      new Uint8Array(100),
    )
    const bytes = new Uint8Array(CHUNK).fill(7)
    const written = file.write(0, bytes)
    structuredClone(bytes.buffer, { transfer: [bytes.buffer] })
    await written
    expect(await file.read(0)).toEqual(new Uint8Array(CHUNK).fill(7))
  })

  test('lists files, most recent first, with what they take', async () => {
    const cache = open()
    await store(cache, 'aa', [0, 1], 3)
    await store(cache, 'bb', [0, 1, 2], 3)
    expect(await cache.list()).toEqual([
      { rootHash: 'bb', name: 'bb.trit', fileBytes: 2600, cachedBytes: 2600, complete: true, lastUsed: 2 },
      { rootHash: 'aa', name: 'aa.trit', fileBytes: 2600, cachedBytes: 2100, complete: false, lastUsed: 1 },
    ])
    expect(await cache.usage()).toEqual({ bytes: 4700, files: 2, budget: 1e9 })
  })

  test('deletes one file, or all', async () => {
    const cache = open()
    await store(cache, 'aa', [0], 1)
    await store(cache, 'bb', [0], 1)
    await cache.rememberRootHash('https://x/y', 'aa')
    expect(await cache.delete('aa')).toBe(true)
    expect(await cache.delete('aa')).toBe(false)
    expect((await cache.list()).map(({ rootHash }) => rootHash)).toEqual(['bb'])
    await cache.clear()
    expect(await cache.list()).toEqual([])
    expect(await cache.rootHashAt('https://x/y')).toBeUndefined()
    expect(memory.entries().size).toBe(0)
  })

  test('stays within its budget: the least recently used file goes', async () => {
    const cache = open(6000)
    await store(cache, 'aa', [0, 1, 2], 3)
    await store(cache, 'bb', [0, 1, 2], 3)
    await store(cache, 'aa', [], 3)
    await store(cache, 'cc', [0], 3)
    expect((await cache.list()).map(({ rootHash }) => rootHash)).toEqual(['cc', 'aa'])
    expect(await store(cache, 'dd', [0], 10)).toBe(false)
    expect((await cache.list()).length).toBe(2)
  })

  test('a full disk takes the oldest file first, then gives the error on', async () => {
    const cache = open()
    await store(cache, 'aa', [0, 1, 2], 3)
    await store(cache, 'bb', [0, 1, 2], 3)
    memory.faults.quota = 6000
    await store(cache, 'cc', [0, 1], 3)
    expect((await cache.list()).map(({ rootHash }) => rootHash)).toEqual(['cc', 'bb'])
    memory.faults.quota = 100
    await expect(store(cache, 'dd', [0], 3)).rejects.toMatchObject({ name: 'QuotaExceededError' })
  })

  test('what another tab deletes meanwhile is simply not there', async () => {
    const cache = open()
    await store(cache, 'aa', [0], 2)
    const file = cache.open('aa')
    await open().clear()
    expect(await file.head()).toBeUndefined()
    expect(await file.read(0)).toBeUndefined()
    expect((await file.chunks()).size).toBe(0)
  })

  test('an interrupted first write leaves something that can be listed and deleted', async () => {
    const cache = open()
    await memory.storage.open('tritswap/1/aa')
    expect(await cache.list()).toMatchObject([{ rootHash: 'aa', cachedBytes: 0, complete: false }])
    expect(await cache.delete('aa')).toBe(true)
  })

  test('without storage everything is empty and nothing fails', async () => {
    memory.faults.closed = true
    for (const cache of [
      open(),
      openChunkCache({ storage: undefined }),
      openChunkCache({ storage: memory.storage, budget: 0 }),
    ]) {
      expect(await cache.available()).toBe(false)
      expect(await store(cache, 'aa', [0], 1)).toBe(false)
      expect(await cache.list()).toEqual([])
      expect(await cache.usage()).toEqual({ bytes: 0, files: 0, budget: 0 })
      expect(await cache.delete('aa')).toBe(false)
      expect(await cache.rootHashAt('https://x/y')).toBeUndefined()
      await cache.rememberRootHash('https://x/y', 'aa')
      await cache.clear()
    }
  })
})

test('where the browser refuses to hand out its storage there is no cache, and everything else goes on', async () => {
  vi.stubGlobal('caches', undefined)
  Object.defineProperty(globalThis, 'caches', {
    configurable: true,
    get() {
      throw new DOMException('Cache storage is disabled because the context is sandboxed', 'SecurityError')
    },
  })
  try {
    const cache = openChunkCache()
    expect(await cache.available()).toBe(false)
    expect(await cache.list()).toEqual([])
    expect(await cache.usage()).toEqual({ bytes: 0, files: 0, budget: 0 })
    await cache.clear()
    const answer = await fileWithCopy(
      'https://models.example/x',
      'unreachable',
      async () => new Response('it'),
    )
    expect(await answer.text()).toBe('it')
  } finally {
    vi.unstubAllGlobals()
  }
})
