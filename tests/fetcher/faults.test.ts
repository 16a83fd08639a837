import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import {
  type Answer,
  type FaultServer,
  type ServedFile,
  startFaultServer,
} from '../../e2e/servers/fault_server.ts'
import { isTritswapError, type TritswapError } from '../../src/errors.ts'
import { type FetchContext, fetchFile } from '../../src/fetcher/fetcher.ts'
import { MemoryChunks } from '../../src/fetcher/memory_chunks.ts'
import type { FetchedFile, FetchProgress, FetchRequest } from '../../src/fetcher/protocol.ts'
import { openChunkCache } from '../../src/source/cache.ts'
import { type MemoryCacheStorage, memoryCacheStorage } from '../source/memory_cache_storage.ts'
import { type TritFile, tritFile } from './trit_file.ts'

const CHUNK = 1 << 16
let server: FaultServer
let file: TritFile
let url: string
let waits: number[]
let storage: MemoryCacheStorage

beforeAll(async () => {
  server = await startFaultServer()
  file = await tritFile()
})
afterAll(() => server.close())
beforeEach(() => {
  waits = []
  storage = memoryCacheStorage()
})

/** `toEqual` takes seconds for a file. */
const same = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0

let served = 0
/** Serves the file at a fresh address. */
function serve(script?: ServedFile['script'], bytes = file.bytes): void {
  const path = `/${served++}.trit`
  server.files.set(path, { bytes, script })
  url = server.url + path
  server.take()
}

/** The answer to the first request only. */
const once =
  (answer: Answer) =>
  ({ number }: { number: number }) =>
    number === 0 ? answer : {}

interface Loaded {
  result: FetchedFile
  payload: Uint8Array
  delivered: number[]
}

const delivered: number[] = []
/** How many chunks there had been when the receiver was told that there are no more. */
const ends: number[] = []

async function load(request: Partial<FetchRequest> = {}, context: FetchContext = {}): Promise<Loaded> {
  const payload = new Uint8Array(file.payload.length)
  delivered.length = 0
  ends.length = 0
  const result = await fetchFile(
    { source: url, ...request },
    {
      sink: {
        head: () => {},
        async chunk({ index, offset, bytes }) {
          expect(same(bytes, file.payload.subarray(offset, offset + bytes.length)), `chunk ${index}`).toBe(
            true,
          )
          delivered.push(index)
          payload.set(bytes, offset)
        },
        end: () => ends.push(delivered.length),
      },
      cache: openChunkCache({ storage: storage.storage }),
      retry: {
        random: () => 0,
        sleep: async (ms) => {
          waits.push(ms)
        },
      },
      ...context,
    },
  )
  expect(delivered.length, 'no chunk twice').toBe(new Set(delivered).size)
  return { result, payload, delivered: [...delivered] }
}

/** Loads and checks every byte. */
async function loadRight(request?: Partial<FetchRequest>, context?: FetchContext): Promise<FetchedFile> {
  const { result, payload, delivered } = await load(request, context)
  expect(same(payload, file.payload)).toBe(true)
  if (context?.sink === undefined) expect(ends, 'told once, after the last chunk').toEqual([delivered.length])
  checkCache()
  return result
}

async function loadError(request?: Partial<FetchRequest>, context?: FetchContext): Promise<TritswapError> {
  const error = await load(request, context).then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (!isTritswapError(error)) throw new Error(`expected a TritswapError, found ${error}`)
  expect(error.message).toContain(url)
  expect(ends, 'a file that fails has no end').toEqual([])
  checkCache()
  return error
}

/** Nothing in the cache is anything but the file. */
function checkCache(): void {
  for (const [key, body] of storage.entries()) {
    const index = /chunk\/(\d+)$/.exec(key)?.[1]
    if (index !== undefined) {
      expect(same(body, file.payload.subarray(Number(index) * CHUNK, (Number(index) + 1) * CHUNK))).toBe(true)
    }
  }
}

describe('a good server', () => {
  test('costs one request and the bytes of the file, and nothing the second time', async () => {
    serve()
    const { stats, rootHash, table } = await loadRight()
    expect(server.take()).toEqual({ requests: 1, bytes: file.bytes.length })
    expect(stats).toMatchObject({ requests: 1, networkBytes: file.bytes.length, cacheBytes: 0, retries: 0 })
    expect(rootHash).toBe(file.head.rootHash)
    expect(table.label).toBe('Test')

    const warm = await loadRight({ rootHash })
    expect(server.take()).toEqual({ requests: 0, bytes: 0 })
    expect(warm.stats).toMatchObject({ requests: 0, networkBytes: 0, cacheBytes: file.bytes.length })
  })

  test('without a root hash a second load asks for the head only', async () => {
    serve()
    await loadRight()
    server.take()
    await loadRight()
    expect(server.take()).toEqual({ requests: 1, bytes: file.head.headBytes })
  })

  test('a renamed file is found in the cache by its root hash', async () => {
    serve()
    await loadRight()
    serve()
    await loadRight({ rootHash: file.head.rootHash })
    expect(server.take()).toEqual({ requests: 0, bytes: 0 })
  })

  test('of a file at another address no chunk is fetched again, even if nobody says that it is the same', async () => {
    serve()
    await loadRight()
    serve()
    const { stats } = await loadRight()
    expect(stats.cacheBytes).toBe(file.payload.length)
    expect(stats.requests).toBe(1)
  })

  test('a file that was replaced at its address is loaded anew', async () => {
    const old = await tritFile({ seed: 9 })
    serve()
    const path = new URL(url).pathname
    server.files.set(path, { bytes: old.bytes })
    await fetchFile({ source: url }, { cache: openChunkCache({ storage: storage.storage }) })
    server.files.set(path, { bytes: file.bytes })
    const { stats } = await load().then(({ result }) => result)
    expect(stats.cacheBytes).toBe(old.head.headBytes)
    expect(stats.requests).toBe(2)
  })

  test('works without a cache', async () => {
    serve()
    await loadRight({}, { cache: undefined })
    expect(server.take()).toEqual({ requests: 1, bytes: file.bytes.length })
  })

  test('a subset of tensors costs the chunks they lie in', async () => {
    serve()
    const { delivered, result } = await load({ tensors: ['t2'] })
    // 120,000 bytes a tensor: t2 lies in chunks 3, 4 and 5.
    expect(delivered.sort()).toEqual([3, 4, 5])
    expect(result.stats.requests).toBe(2)
    const { delivered: rest, result: second } = await load()
    expect(rest.length).toBe(file.head.chunks)
    expect(second.stats.networkBytes).toBe(file.head.headBytes + 3 * CHUNK)
  })

  test('refuses a wrong root hash, a wrong kind and an unknown tensor before any chunk', async () => {
    serve()
    expect(await loadError({ rootHash: '0'.repeat(64) })).toMatchObject({ tag: 'integrity' })
    expect(await loadError({ kind: 'base' })).toMatchObject({ tag: 'input' })
    await expect(load({ tensors: ['nobody'] })).rejects.toMatchObject({ tag: 'input' })
    expect(delivered).toEqual([])
  })
})

describe('cut connections', () => {
  const cuts = () =>
    Array.from({ length: file.head.chunks + 1 }, (_, i) =>
      Math.min(file.head.headBytes + i * CHUNK, file.bytes.length),
    )
      .flatMap((at) => [at - 1, at, at + 1])
      .concat(0, 1, 31, 32, 33)
      .filter((at) => at < file.bytes.length)

  test('at every chunk boundary ± 1 byte go on at the byte they reached', async () => {
    for (const cut of cuts()) {
      storage = memoryCacheStorage()
      serve(once({ cutAt: cut }))
      const { stats } = await loadRight()
      expect(stats, `cut at ${cut}`).toMatchObject({ requests: 2, retries: 1 })
      const [first, second] = server.log.filter(({ path }) => url.endsWith(path))
      expect(first.bytes).toBe(cut)
      // What the platform had not handed over when the connection broke is lost: at most one chunk.
      const start = Number(/^bytes=(\d+)-$/.exec(second.range ?? 'bytes=0-')?.[1])
      expect(cut - start).toBeGreaterThanOrEqual(0)
      expect(cut - start).toBeLessThanOrEqual(CHUNK)
      expect(second.bytes).toBe(file.bytes.length - start)
      server.take()
    }
  })

  test('that never stop end in an error, and the next load needs only what is missing', async () => {
    const cut = file.head.headBytes + 2 * CHUNK + 100
    let broken = true
    serve(({ start }) => (broken ? { cutAt: Math.max(start, cut) } : {}))
    const error = await loadError()
    expect(error).toMatchObject({ tag: 'network', fields: { retryable: true, url } })
    expect(server.take().requests).toBe(6)
    expect(waits.map(Math.round)).toEqual([250, 500, 1000, 2000, 4000])

    broken = false
    const { stats } = await loadRight({ rootHash: file.head.rootHash })
    expect(stats.requests).toBe(1)
    expect(stats.networkBytes).toBe(file.bytes.length - file.head.headBytes - 2 * CHUNK)
  })

  test('a body that ends early counts as cut', async () => {
    serve(once({ endAt: file.head.headBytes + CHUNK + 5 }))
    const { stats } = await loadRight()
    expect(stats).toMatchObject({ requests: 2, networkBytes: file.bytes.length })
  })
})

describe('servers that do not do as they should', () => {
  test('200 for every Range request: one download', async () => {
    serve(() => ({ ignoreRange: true }))
    await loadRight()
    expect(server.take()).toEqual({ requests: 1, bytes: file.bytes.length })
  })

  test('200 for Range with holes in the cache: one download that skips', async () => {
    serve()
    await load({ tensors: ['t1'] })
    for (const { ignoreRange } of [{ ignoreRange: true }]) {
      const path = new URL(url).pathname
      server.files.set(path, { bytes: file.bytes, script: () => ({ ignoreRange }) })
    }
    server.take()
    await loadRight({ rootHash: file.head.rootHash })
    expect(server.take().requests).toBe(1)
  })

  test('a cut 200 starts again and skips what it had', async () => {
    serve(({ number }) => ({ ignoreRange: true, ...(number === 0 ? { cutAt: 3 * CHUNK } : {}) }))
    const { stats } = await loadRight()
    expect(stats.requests).toBe(2)
    expect(server.take().bytes).toBe(3 * CHUNK + file.bytes.length)
  })

  test('a wrong Content-Range is an error at once', async () => {
    for (const contentRange of [
      'bytes 7-9/100',
      'nonsense',
      `bytes 1-${file.bytes.length}/${file.bytes.length}`,
    ]) {
      serve(() => ({ contentRange }))
      const error = await loadError()
      expect(error).toMatchObject({ tag: 'network', fields: { url, status: 206 } })
      expect(error.message).toContain(contentRange)
      expect(server.take().requests).toBe(1)
    }
  })

  test('bytes after the end are not looked at', async () => {
    serve(undefined, new Uint8Array([...file.bytes, ...new Uint8Array(1000)]))
    await loadRight()
    serve(() => ({ extraBytes: 5000 }))
    await loadRight()
  })

  test('a truncated file is named as such', async () => {
    serve(undefined, file.bytes.slice(0, file.bytes.length - 10))
    const error = await loadError()
    expect(error).toMatchObject({ tag: 'format', fields: { size: file.bytes.length - 10 } })
    expect(delivered.length).toBe(file.head.chunks - 1)
    expect(server.take().requests).toBe(1)
  })

  test('a flipped byte in each chunk is found, and right bytes past the caches are taken', async () => {
    for (let index = 0; index < file.head.chunks; index++) {
      const flip = Math.min(file.head.headBytes + index * CHUNK + 77, file.bytes.length - 1)
      storage = memoryCacheStorage()
      serve(() => ({ flip }))
      expect(await loadError()).toMatchObject({ tag: 'integrity', fields: { chunk: index } })
      expect(delivered).not.toContain(index)
      expect(server.take().requests).toBe(2)

      storage = memoryCacheStorage()
      serve(once({ flip }))
      const { stats } = await loadRight()
      expect(stats.requests).toBe(2)
    }
  })

  test('a flipped byte in the head is found by its root hash', async () => {
    serve(() => ({ flip: 40 }))
    expect(await loadError({ rootHash: file.head.rootHash })).toMatchObject({ tag: 'integrity' })
    expect(delivered).toEqual([])
    expect(storage.entries().size).toBe(0)
  })

  test('statuses that will not pass fail at once', async () => {
    for (const status of [400, 401, 403, 404, 410]) {
      serve(() => ({ status }))
      const error = await loadError()
      expect(error).toMatchObject({ tag: 'network', fields: { url, status } })
      expect(error.message).toContain(String(status))
      expect(server.take().requests).toBe(1)
    }
  })

  test('503 and the like pass', async () => {
    for (const status of [408, 425, 500, 502, 503, 504]) {
      storage = memoryCacheStorage()
      serve(once({ status }))
      await loadRight()
      expect(server.take()).toMatchObject({ requests: 2 })
    }
  })

  test('429 is waited for as long as it asks, within reason', async () => {
    serve(once({ status: 429, headers: { 'Retry-After': '7' } }))
    await loadRight()
    expect(waits).toEqual([7000])

    storage = memoryCacheStorage()
    serve(once({ status: 429, headers: { 'Retry-After': '3600' } }))
    expect(await loadError()).toMatchObject({ fields: { status: 429, retryAfterMs: 3_600_000 } })
    expect(waits).toEqual([7000])
  })

  describe('a stall', () => {
    beforeEach(() => vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }))
    afterEach(() => vi.useRealTimers())

    /** Lets 30 s of silence pass, once this many requests were made and the client has read all that came. */
    async function passSilence(requests: number): Promise<void> {
      await vi.waitFor(() =>
        expect(server.log.filter(({ path }) => url.endsWith(path)).length).toBe(requests),
      )
      await vi.waitFor(() => expect(delivered.length).toBe(1))
      await vi.waitFor(() => expect(vi.getTimerCount()).toBeGreaterThan(0))
      await vi.advanceTimersByTimeAsync(30_000)
    }

    test('is cut off and gone on from', async () => {
      serve(once({ stallAt: file.head.headBytes + CHUNK }))
      const loading = loadRight()
      await passSilence(1)
      const { stats } = await loading
      expect(stats).toMatchObject({ requests: 2, retries: 1, networkBytes: file.bytes.length })
    })

    test('that comes again and again is an error', async () => {
      serve(({ start }) => ({ stallAt: Math.max(start, file.head.headBytes + CHUNK) }))
      const loading = loadError()
      for (let requests = 1; requests <= 6; requests++) await passSilence(requests)
      expect((await loading).message).toContain('sent nothing for 30 s')
    })
  })

  test('redirects are followed', async () => {
    serve()
    const target = url
    serve(() => ({ redirect: target }))
    await loadRight()
    expect(server.take()).toEqual({ requests: 2, bytes: file.bytes.length })
  })

  test('compressed bodies are decoded, compressed ranges asked for as a whole', async () => {
    serve(() => ({ gzip: true, ignoreRange: true }))
    await loadRight()
    expect(server.take().requests).toBe(1)

    storage = memoryCacheStorage()
    serve(() => ({ gzip: true }))
    await loadRight()
    expect(server.take().requests).toBe(2)
  })

  test('an ETag that changes half way is an error that says so', async () => {
    const changed = await tritFile({ seed: 5 })
    serve()
    const path = new URL(url).pathname
    const script: ServedFile['script'] = ({ number }) => {
      if (number === 0) return { etag: '"old"', cutAt: 2 * CHUNK }
      server.files.set(path, { bytes: changed.bytes, script })
      return { etag: '"new"' }
    }
    server.files.set(path, { bytes: file.bytes, script })
    const error = await loadError()
    expect(error).toMatchObject({ tag: 'network', fields: { url } })
    expect(error.message).toContain('changed on the server')
    expect(server.take().requests).toBe(2)
  })

  test('a name that does not resolve is a network error with its cause', async () => {
    url = 'http://127.0.0.1:1/x.trit'
    const error = await loadError()
    expect(error).toMatchObject({ tag: 'network', fields: { url } })
    expect(error.cause).toBeInstanceOf(Error)
    expect(waits.length).toBe(5)
  })
})

describe('out of reach', () => {
  const unreachable = () => Promise.reject(new TypeError('Failed to fetch'))
  let warnings: string[]
  let context: FetchContext
  beforeEach(() => {
    warnings = []
    context = { http: { fetch: unreachable }, onWarning: (message) => warnings.push(message) }
  })
  afterEach(() => vi.unstubAllGlobals())

  test('a known address is loaded from the cache, and says that it may be out of date', async () => {
    serve()
    await loadRight()
    const { stats } = await loadRight({}, context)
    expect(stats).toMatchObject({ requests: 2, networkBytes: 0, cacheBytes: file.bytes.length })
    expect(warnings).toEqual([expect.stringContaining(`${url} cannot be reached`)])
  })

  test('a browser that knows it is offline is not made to try', async () => {
    serve()
    await loadRight()
    server.take()
    vi.stubGlobal('navigator', { onLine: false })
    expect((await loadRight()).stats.requests).toBe(0)
    expect(server.take().requests).toBe(0)
  })

  test('an address whose file is not all there, or not known, is an error', async () => {
    serve()
    expect(await loadError({}, context)).toMatchObject({ tag: 'network' })
    await load({ tensors: ['t1'] })
    expect(await loadError({}, context)).toMatchObject({ tag: 'network', cause: expect.any(TypeError) })
    await load({ tensors: ['t1'] }, context)
    expect(warnings).toHaveLength(1)
  })

  test('a server that answers is believed, whatever it says', async () => {
    const path = () => new URL(url).pathname
    serve()
    await loadRight()
    for (const status of [404, 503]) {
      server.files.set(path(), { bytes: file.bytes, script: () => ({ status }) })
      expect(await loadError({}, { onWarning: context.onWarning })).toMatchObject({ fields: { status } })
    }
    const next = await tritFile({ seed: 11 })
    server.files.set(path(), { bytes: next.bytes })
    const { rootHash } = await fetchFile(
      { source: url },
      { cache: openChunkCache({ storage: storage.storage }) },
    )
    expect(rootHash).toBe(next.head.rootHash)
    expect(warnings).toEqual([])
  })
})

describe('names of the hub', () => {
  const REVISION = '0123456789abcdef0123456789abcdef01234567'
  const name = `hf:owner/repo/experts/a b.trit@${REVISION}`
  let cdn: FaultServer
  beforeAll(async () => {
    cdn = await startFaultServer()
  })
  afterAll(() => cdn.close())
  beforeEach(() => {
    server.take()
    cdn.take()
    // What the hub does for files that it keeps elsewhere.
    server.files.set(`/owner/repo/resolve/${REVISION}/experts/a b.trit`, {
      bytes: new Uint8Array(0),
      script: () => ({ redirect: `${cdn.url}/blob` }),
    })
    url = `${server.url}/owner/repo/resolve/${REVISION}/experts/a%20b.trit`
  })

  test('load through the redirect to another host, by Range', async () => {
    cdn.files.set('/blob', { bytes: file.bytes })
    const { name: from } = await loadRight({ source: name }, { http: { hub: `${server.url}/` } })
    expect(from).toBe(url)
    expect(server.take()).toEqual({ requests: 1, bytes: 0 })
    expect(cdn.log.at(-1)).toMatchObject({ range: 'bytes=0-', status: 206 })
    expect(cdn.take()).toEqual({ requests: 1, bytes: file.bytes.length })
    // The revision is part of the address, so the cache knows it again.
    await loadRight({ source: name }, { http: { hub: server.url } })
    expect(cdn.take()).toEqual({ requests: 1, bytes: file.head.headBytes })
  })

  test('a cut there is gone on from through a redirect of its own', async () => {
    const cutAt = file.head.headBytes + 2 * CHUNK
    cdn.files.set('/blob', { bytes: file.bytes, script: ({ start }) => (start === 0 ? { cutAt } : {}) })
    const { stats } = await loadRight({ source: name }, { http: { hub: server.url } })
    expect(stats).toMatchObject({ requests: 2, retries: 1 })
    expect(server.take().requests).toBe(2)
    expect(cdn.log.at(-1)?.range).toMatch(/^bytes=[1-9]\d*-$/)
  })

  test('a branch that moved is refused where the root hash is known', async () => {
    cdn.files.set('/blob', { bytes: (await tritFile({ seed: 12 })).bytes })
    const error = await loadError(
      { source: name, rootHash: file.head.rootHash },
      { http: { hub: server.url } },
    )
    expect(error).toMatchObject({ tag: 'integrity' })
    expect(delivered).toEqual([])
  })
})

describe('memory', () => {
  /** Chunks that exist at once, from the allocation of their bytes until the receiver has them. */
  async function chunksInHand(request: FetchRequest, chunkBytes: number): Promise<number> {
    const born = new Map<Uint8Array, number>()
    const lives: { from: number; to: number }[] = []
    let now = 0
    const construct = (target: typeof Uint8Array, args: [number], caller: NewableFunction) => {
      const array: Uint8Array = Reflect.construct(target, args, caller)
      if (array.length === chunkBytes) born.set(array, now++)
      return array
    }
    vi.stubGlobal('Uint8Array', new Proxy(Uint8Array, { construct }))
    const sink = {
      head: () => {},
      async chunk({ bytes }: { bytes: Uint8Array<ArrayBuffer> }) {
        // A slow receiver: everything that can pile up does.
        await new Promise((resolve) => setTimeout(resolve, 5))
        lives.push({ from: born.get(bytes) ?? Number.NaN, to: now++ })
      },
      end: () => {},
    }
    const cache = openChunkCache({ storage: storage.storage })
    await fetchFile(request, { cache, sink, memory: new MemoryChunks() }).finally(() => vi.unstubAllGlobals())
    expect(lives.every(({ from }) => from >= 0)).toBe(true)
    return Math.max(
      ...lives.map(({ to: at }) => lives.filter(({ from, to }) => from < at && at <= to).length),
    )
  }

  test('no more than three chunks are in hand, wherever they come from', async () => {
    // Chunks that are larger than any piece of a body, so that only they are counted.
    const many = await tritFile({ tensors: 16, weights: 1 << 16, kind: 'base', chunkLog2: 18 })
    const { rootHash, chunks, chunkBytes, table } = many.head
    serve(undefined, many.bytes)
    const cache = openChunkCache({ storage: storage.storage })
    expect(chunks).toBe(16)
    // Every fourth tensor is cached: chunks come from the cache and over several requests at once.
    const tensors = table.tensors.filter((_, i) => i % 4 === 0).map(({ name }) => name)
    await fetchFile({ source: url, tensors }, { cache })
    server.take()
    expect(await chunksInHand({ source: url, rootHash }, chunkBytes)).toBe(3)
    expect(server.take().requests).toBe(4)
    // All of it from the cache, then all of it by one request, then by several.
    expect(await chunksInHand({ source: url, rootHash }, chunkBytes)).toBeLessThanOrEqual(3)
    storage = memoryCacheStorage()
    expect(await chunksInHand({ source: url, rootHash }, chunkBytes)).toBeLessThanOrEqual(3)
    storage = memoryCacheStorage()
    expect(await chunksInHand({ source: url, rootHash, tensors }, chunkBytes)).toBeLessThanOrEqual(3)
  })
})

describe('abort', () => {
  test('stops the request at once and keeps what was verified', async () => {
    serve(() => ({ stallAt: file.head.headBytes + 3 * CHUNK }))
    const controller = new AbortController()
    const loading = load({}, { signal: controller.signal, http: {} })
    await expect.poll(() => delivered.length).toBe(3)
    controller.abort()
    await expect(loading).rejects.toMatchObject({ name: 'AbortError' })
    await expect
      .poll(() => [...storage.entries().keys()].filter((key) => key.includes('chunk')).length)
      .toBe(3)
    checkCache()

    server.files.set(new URL(url).pathname, { bytes: file.bytes })
    server.take()
    const { stats } = await loadRight({ rootHash: file.head.rootHash })
    expect(stats.networkBytes).toBe(file.bytes.length - file.head.headBytes - 3 * CHUNK)
  })

  test('before it, what has come is said even where the server then sends no more', async () => {
    const arrived = file.head.headBytes + 3 * CHUNK
    serve(() => ({ stallAt: arrived }))
    const controller = new AbortController()
    let last: number | undefined
    const onProgress = ({ loaded }: FetchProgress) => {
      last = loaded
    }
    const loading = load({}, { signal: controller.signal, http: {}, onProgress })
    await expect.poll(() => last).toBe(arrived)
    controller.abort()
    await expect(loading).rejects.toMatchObject({ name: 'AbortError' })
  })

  test('before the start costs no request', async () => {
    serve()
    await expect(load({}, { signal: AbortSignal.abort() })).rejects.toMatchObject({ name: 'AbortError' })
    expect(server.take().requests).toBe(0)
  })
})

describe('cache', () => {
  test('garbled entries are fetched again', async () => {
    serve()
    const { rootHash } = await loadRight()
    for (const [key, body] of storage.entries())
      if (key.endsWith('chunk/1') || key.endsWith('chunk/4')) body[5] ^= 1
    server.take()
    const { payload } = await load({ rootHash })
    expect(same(payload, file.payload)).toBe(true)
    expect(server.take()).toEqual({ requests: 2, bytes: 2 * CHUNK })
    checkCache()
  })

  test('a garbled head is fetched again', async () => {
    serve()
    const { rootHash } = await loadRight()
    for (const [key, body] of storage.entries()) if (key.endsWith('head')) body[50] ^= 1
    await loadRight({ rootHash })
  })

  test('holes are fetched at once, each with its own range', async () => {
    serve()
    await load({ tensors: ['t1'] })
    server.take()
    const { stats } = await loadRight({ rootHash: file.head.rootHash })
    // t1 lies in chunks 1 to 3 of 6.
    expect(stats).toMatchObject({ requests: 2, networkBytes: file.payload.length - 3 * CHUNK })
  })

  test('a full disk, a small budget or a private mode does not stop a load, and is told once', async () => {
    const warnings: string[] = []
    const onWarning = (message: string) => warnings.push(message)
    const told = () => warnings.splice(0)
    serve()
    storage.faults.quota = file.head.headBytes + 2 * CHUNK
    await loadRight({}, { cache: openChunkCache({ storage: storage.storage, budget: 1e9 }), onWarning })
    expect(told()).toEqual([expect.stringContaining('QuotaExceededError')])

    storage = memoryCacheStorage()
    serve()
    await loadRight({}, { cache: openChunkCache({ storage: storage.storage, budget: 1000 }), onWarning })
    expect(told()).toEqual([expect.stringContaining('budget')])
    expect([...storage.entries().keys()].filter((key) => key.includes('tritswap/1'))).toEqual([])

    storage.faults.closed = true
    serve()
    await loadRight({}, { onWarning })
    expect(told()).toEqual([expect.stringContaining('no storage')])
    expect(server.take()).toEqual({ requests: 1, bytes: file.bytes.length })
    await loadRight({}, { cache: undefined, onWarning })
    expect(told()).toEqual([])
  })
})
