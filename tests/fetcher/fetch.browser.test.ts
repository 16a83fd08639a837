import { afterEach, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest'
import type { Answer, RequestRecord } from '../../e2e/servers/fault_server.ts'
import { type FetchOptions, FetchPool, type FetchPoolOptions } from '../../src/fetcher/pool.ts'
import type { FetchRequest } from '../../src/fetcher/protocol.ts'
import { receiveFile } from '../../src/fetcher/receive.ts'
import { type TritFile, tritFile } from './trit_file.ts'

const CHUNK = 1 << 16
const server = inject('faultServer')
let file: TritFile
let pool: FetchPool
let workers: Worker[]
const warnings: string[] = []

beforeAll(async () => {
  file = await tritFile()
})
beforeEach(async () => {
  workers = []
  warnings.length = 0
  pool = newPool()
  await pool.cache.clear()
})
afterEach(() => pool.dispose())

function newPool(options: Partial<FetchPoolOptions> = {}): FetchPool {
  return new FetchPool({
    createWorker: () => {
      const worker = new Worker(new URL('../../src/fetcher/worker.ts', import.meta.url), { type: 'module' })
      workers.push(worker)
      return worker
    },
    settings: { retry: { attempts: 3, baseMs: 20 } },
    onWarning: (message) => warnings.push(message),
    ...options,
  })
}

/** Puts the file at a fresh address and returns it with the faults ordered. */
async function serve(
  faults: { first?: Answer; each?: Answer; cors?: 0 } = {},
  bytes = file.bytes,
): Promise<string> {
  const url = new URL(`/${crypto.randomUUID()}.trit`, server)
  await fetch(url, { method: 'PUT', body: bytes })
  for (const [key, value] of Object.entries(faults)) url.searchParams.set(key, JSON.stringify(value))
  return url.href
}

/** What the server saw of an address. */
async function requestsOf(url: string): Promise<RequestRecord[]> {
  const { pathname } = new URL(url)
  const response = await fetch(`${server}/log?path=${pathname}`, { cache: 'no-store' })
  const log = (await response.json()) as RequestRecord[]
  return log.filter(({ method }) => method === 'GET')
}

async function load(request: FetchRequest, options?: FetchOptions, from = pool) {
  const handle = from.load(request, options)
  const receive = async () => {
    const { head, chunks } = await receiveFile(handle.port, handle.signal)
    const payload = new Uint8Array(head.payloadBytes)
    for await (const { offset, bytes } of chunks) payload.set(bytes, offset)
    return payload
  }
  const [payload, result] = await Promise.allSettled([receive(), handle.done])
  if (result.status === 'rejected') throw result.reason
  if (payload.status === 'rejected') throw payload.reason
  expect(payload.value.every((byte, i) => byte === file.payload[i])).toBe(true)
  return result.value
}

describe('fetch workers', () => {
  test('load from another origin by one request without a preflight; the cache serves every later page', async () => {
    const source = await serve()
    const { stats, rootHash } = await load({ source })
    expect(stats).toMatchObject({ requests: 1, networkBytes: file.bytes.length })
    expect(await requestsOf(source)).toMatchObject([{ range: 'bytes=0-', bytes: file.bytes.length }])

    const other = newPool()
    const warm = await load({ source: 'https://renamed.invalid/x.trit', rootHash }, {}, other)
    expect(warm.stats).toMatchObject({ requests: 0, networkBytes: 0, cacheBytes: file.bytes.length })
    expect(await other.cache.list()).toMatchObject([
      { rootHash, complete: true, cachedBytes: file.bytes.length },
    ])
    expect((await other.cache.usage()).bytes).toBe(file.bytes.length)
    other.dispose()
    expect(warnings).toEqual([])
  })

  test('the cache stays within its budget: what was not used for longest goes', async () => {
    pool.dispose()
    // Room for two files of this size.
    pool = newPool({ settings: { cacheBudget: 2.5 * file.bytes.length } })
    const other = await tritFile({ seed: 2 })
    const third = await tritFile({ seed: 3 })
    const fill = async ({ bytes }: TritFile) => pool.prefetch({ source: await serve({}, bytes) })
    await fill(file)
    await fill(other)
    await load({ source: 'https://nowhere.invalid/', rootHash: file.head.rootHash })
    await fill(third)
    expect((await pool.cache.list()).map(({ rootHash }) => rootHash)).toEqual([
      third.head.rootHash,
      file.head.rootHash,
    ])
    const { bytes, budget } = await pool.cache.usage()
    expect(bytes).toBeLessThanOrEqual(budget)
  })

  test('two pools that load the same file at once both end right', async () => {
    const source = await serve()
    const other = newPool()
    await Promise.all([load({ source }), load({ source }, {}, other)])
    expect(await pool.cache.list()).toMatchObject([{ complete: true }])
    other.dispose()
  })

  test.each([0, 33, 2 * CHUNK, 2 * CHUNK + 1, 5 * CHUNK])(
    'come through a cut at byte %i, and fetch no more than one chunk again',
    async (cutAt) => {
      // The whole burst and the end of the connection arrive at once: the browser hands little of it over.
      const source = await serve({ first: { cutAt } })
      await load({ source, rootHash: file.head.rootHash })
      const requests = await requestsOf(source)
      expect(requests).toHaveLength(2)
      const fetched = requests.reduce((sum, { bytes }) => sum + bytes, 0)
      expect(fetched - file.bytes.length).toBeLessThanOrEqual(CHUNK)
    },
  )

  test.each<[string, { first?: Answer; each?: Answer }]>([
    ['a server without Range', { each: { ignoreRange: true } }],
    [
      'a cut of a server without Range',
      { first: { cutAt: 2 * CHUNK, ignoreRange: true }, each: { ignoreRange: true } },
    ],
    ['503', { first: { status: 503 } }],
    ['429', { first: { status: 429, headers: { 'Retry-After': '0' } } }],
    ['a body that ends early', { first: { endAt: 2 * CHUNK } }],
    ['a long body', { each: { extraBytes: 5000 } }],
    ['a compressed whole', { each: { gzip: true, ignoreRange: true } }],
    ['compressed ranges', { each: { gzip: true } }],
    ['one flipped byte', { first: { flip: 3 * CHUNK } }],
  ])('come through %s', async (_name, faults) => {
    const source = await serve(faults)
    await load({ source, rootHash: file.head.rootHash })
    expect(await pool.cache.list()).toMatchObject([{ complete: true }])
    await load({ source, rootHash: file.head.rootHash })
  })

  test('come through a stall and a redirect', async () => {
    pool.dispose()
    pool = newPool({ settings: { silenceMs: 400, retry: { baseMs: 20 } } })
    await load({ source: await serve({ first: { stallAt: 2 * CHUNK } }) })
    await pool.cache.clear()
    await load({ source: await serve({ each: { redirect: await serve() } }) })
  })

  describe('hub names', () => {
    /** The same server under another name: another origin than the hub, and than the page. */
    async function blob(faults: Parameters<typeof serve>[0]): Promise<string> {
      const url = new URL(await serve(faults))
      url.hostname = 'localhost'
      return url.href
    }

    /** Puts a file on the hub that redirects to these addresses, one after the other. */
    async function hubName(...redirects: string[]): Promise<string> {
      const repo = `owner/${crypto.randomUUID()}`
      const query = redirects.map((url) => `redirect=${encodeURIComponent(url)}`).join('&')
      await fetch(`${server}/${repo}/resolve/0123456789abcdef/e.trit?${query}`, { method: 'PUT' })
      pool.dispose()
      pool = newPool({ settings: { hub: server, retry: { baseMs: 20 } } })
      return `hf:${repo}/e.trit@0123456789abcdef`
    }

    test('lead through a redirect to another host, without a preflight', async () => {
      const elsewhere = await blob({ first: { cutAt: 2 * CHUNK } })
      const source = await hubName(elsewhere)
      const { name, stats } = await load({ source, rootHash: file.head.rootHash })
      expect(name).toMatch(/\/resolve\/0123456789abcdef\/e\.trit$/)
      expect(stats).toMatchObject({ requests: 2, retries: 1 })
      const [first, second] = await requestsOf(elsewhere)
      expect(first).toMatchObject({ range: 'bytes=0-', status: 206, bytes: 2 * CHUNK })
      expect(second).toMatchObject({ status: 206 })
      expect(second.range).toMatch(/^bytes=[1-9]/)
    })

    test('come through a redirect whose target has expired half way', async () => {
      const expired = await blob({ first: { cutAt: 2 * CHUNK }, each: { status: 403 } })
      await load({ source: await hubName(expired, await blob({})), rootHash: file.head.rootHash })
    })
  })

  test.each<[string, { each?: Answer; cors?: 0 }, object, number]>([
    ['404', { each: { status: 404 } }, { tag: 'network', fields: { status: 404 } }, 1],
    [
      '403 without CORS',
      { each: { status: 403 }, cors: 0 },
      {
        tag: 'network',
        message: expect.stringContaining(`"Access-Control-Allow-Origin: ${location.origin}"`),
      },
      3,
    ],
    ['a byte that is always flipped', { each: { flip: 2 * CHUNK } }, { tag: 'integrity' }, 2],
  ])('name the address and the cause of %s', async (_name, faults, expected, requests) => {
    const source = await serve(faults)
    const error: Error = await load({ source }).then(
      () => expect.unreachable(),
      (thrown) => thrown,
    )
    expect(error).toMatchObject(expected)
    expect(error.message).toContain(source)
    expect(await requestsOf(source)).toHaveLength(requests)
    expect((await pool.cache.list()).every(({ complete }) => !complete)).toBe(true)
  })

  test('a cut load goes on in another page with what is missing', async () => {
    // Slow enough that the browser has handed everything over when the connection breaks.
    const cutAt = 4 * CHUNK
    const source = await serve({ first: { cutAt, bitsPerSecond: 8e6 }, each: { status: 404 } })
    await expect(load({ source })).rejects.toMatchObject({ tag: 'network' })
    const other = newPool()
    const { stats } = await load({ source: await serve(), rootHash: file.head.rootHash }, {}, other)
    expect(stats.requests).toBe(1)
    const missing = file.bytes.length - cutAt
    expect(stats.networkBytes).toBeGreaterThanOrEqual(missing)
    expect(stats.networkBytes).toBeLessThanOrEqual(missing + CHUNK)
    other.dispose()
  })

  test('an abort ends the request', async () => {
    const source = await serve({ each: { stallAt: 3 * CHUNK } })
    const controller = new AbortController()
    const loading = load({ source }, { signal: controller.signal })
    await expect.poll(async () => (await requestsOf(source))[0]?.bytes).toBe(3 * CHUNK)
    controller.abort()
    await expect(loading).rejects.toMatchObject({ name: 'AbortError' })
    // The server knows the status of a response once it is over.
    await expect.poll(async () => (await requestsOf(source))[0].status).toBe(206)
    await load({ source: await serve() })
  })

  test('a worker that is killed rejects its load; the next load has a new one', async () => {
    pool.dispose()
    workers = []
    pool = newPool({ size: 1 })
    const source = await serve({ each: { stallAt: 3 * CHUNK } })
    const { port, done, signal } = pool.load({ source })
    const { chunks } = await receiveFile(port, signal)
    await chunks.next()
    const stored = file.head.headBytes + CHUNK
    const cachedBytes = async () => (await pool.cache.list())[0]?.cachedBytes ?? 0
    await expect.poll(cachedBytes).toBeGreaterThanOrEqual(stored)
    workers[0].dispatchEvent(new ErrorEvent('error', { message: 'killed' }))
    await expect(done).rejects.toMatchObject({ tag: 'worker', message: expect.stringContaining('killed') })
    await expect(
      (async () => {
        for await (const _ of chunks);
      })(),
    ).rejects.toMatchObject({ tag: 'worker' })
    const { stats } = await load({ source: await serve(), rootHash: file.head.rootHash })
    expect(stats.cacheBytes).toBeGreaterThanOrEqual(stored)
    expect(stats.networkBytes).toBe(file.bytes.length - stats.cacheBytes)
    expect(workers.length).toBe(2)
  })

  test('no more than two chunks are on their way to a slow reader', async () => {
    const { port, done, signal } = pool.load({ source: await serve() })
    const { chunks } = await receiveFile(port, signal)
    let waiting = 0
    let most = 0
    port.addEventListener('message', ({ data }) => {
      if (data.type === 'chunk') most = Math.max(most, ++waiting)
    })
    for await (const _ of chunks) {
      await new Promise((resolve) => setTimeout(resolve, 10))
      waiting--
    }
    await done
    expect(most).toBe(2)
  })
})
