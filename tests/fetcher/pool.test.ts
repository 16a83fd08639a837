import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { type FaultServer, startFaultServer } from '../../e2e/servers/fault_server.ts'
import { type FetchOptions, FetchPool, type FetchPoolOptions } from '../../src/fetcher/pool.ts'
import type { FetchProgress, FetchRequest } from '../../src/fetcher/protocol.ts'
import { receiveFile } from '../../src/fetcher/receive.ts'
import { fetchService } from '../../src/fetcher/service.ts'
import { type FakeWorker, fakeWorker } from '../rpc/fake_worker.ts'
import { memoryCacheStorage } from '../source/memory_cache_storage.ts'
import { type TritFile, tritFile } from './trit_file.ts'

const CHUNK = 1 << 16
let server: FaultServer
let file: TritFile
let workers: FakeWorker[]
let pool: FetchPool

beforeAll(async () => {
  server = await startFaultServer()
  file = await tritFile()
})
afterAll(() => server.close())
beforeEach(() => {
  workers = []
  vi.stubGlobal('caches', memoryCacheStorage().storage)
  pool = newPool()
  server.take()
})
afterEach(() => {
  pool.dispose()
  vi.unstubAllGlobals()
})

function newPool(options: Partial<FetchPoolOptions> = {}): FetchPool {
  return new FetchPool({
    createWorker: () => {
      const fake = fakeWorker(fetchService())
      workers.push(fake)
      return fake.worker
    },
    size: 2,
    settings: { cacheBudget: 1e9 },
    ...options,
  })
}

let served = 0
function serve(script?: Parameters<typeof server.files.set>[1]['script'], bytes = file.bytes): string {
  const path = `/pool-${served++}.trit`
  server.files.set(path, { bytes, script })
  return server.url + path
}

/** Loads as the engine does, at the other end of the port. */
async function load(request: FetchRequest, options?: FetchOptions) {
  const handle = pool.load(request, options)
  const receive = async () => {
    const { head, chunks } = await receiveFile(handle.port, handle.signal)
    const payload = new Uint8Array(head.payloadBytes)
    for await (const { offset, bytes } of chunks) payload.set(bytes, offset)
    return payload
  }
  const [payload, result] = await Promise.allSettled([receive(), handle.done])
  if (result.status === 'rejected') {
    expect(payload.status, 'the receiver hears of it').toBe('rejected')
    throw result.reason
  }
  if (payload.status === 'rejected') throw payload.reason
  expect(Buffer.compare(payload.value, file.payload)).toBe(0)
  return result.value
}

describe('pool', () => {
  test('asks the browser once not to drop the cache, and not before there is something in it', async () => {
    const persist = vi.fn(async () => true)
    vi.stubGlobal('navigator', { storage: { persist } })
    await load({ source: file.bytes.slice().buffer })
    expect(persist).not.toHaveBeenCalled()
    for (let i = 0; i < 2; i++) await load({ source: serve() })
    await expect.poll(() => persist.mock.calls.length).toBe(1)
  })

  test('delivers a file to another port with progress in the known shape', async () => {
    const events: FetchProgress[] = []
    const source = serve()
    const { rootHash } = await load({ source, name: 'austen' }, { onProgress: (event) => events.push(event) })
    await expect.poll(() => events.at(-1)?.status).toBe('done')
    expect(rootHash).toBe(file.head.rootHash)
    expect(events.map(({ status }) => status).filter((status) => status !== 'progress')).toEqual([
      'initiate',
      'download',
      'done',
    ])
    expect(events.every(({ name, file }) => name === 'austen' && file === source)).toBe(true)
    expect(events.at(-1)).toMatchObject({
      loaded: file.bytes.length,
      total: file.bytes.length,
      progress: 100,
    })
  })

  test('holds back while the receiver takes its time', async () => {
    const { port, done, signal } = pool.load({ source: serve() })
    const { chunks } = await receiveFile(port, signal)
    await chunks.next()
    let finished = false
    done.then(() => {
      finished = true
    })
    await load({ source: serve() })
    expect(finished).toBe(false)
    for await (const _ of chunks);
    await done
  })

  test('a receiver that leaves cancels the load', async () => {
    const { port, done, signal } = pool.load({ source: serve() })
    done.catch(() => {})
    const { chunks } = await receiveFile(port, signal)
    for await (const _ of chunks) break
    await expect(done).rejects.toMatchObject({ name: 'AbortError' })
  })

  test('errors reach both ends, typed', async () => {
    const source = serve(() => ({ status: 404 }))
    await expect(load({ source })).rejects.toMatchObject({
      tag: 'network',
      fields: { url: source, status: 404 },
    })
    await expect(load({ source: 'http://[bad' })).rejects.toMatchObject({ tag: 'input' })
  })

  test('loads bytes and blobs without the network or the cache', async () => {
    const { stats } = await load({ source: file.bytes.slice().buffer })
    expect(stats).toMatchObject({ requests: 0, networkBytes: 0, cacheBytes: 0 })
    await load({ source: new Blob([file.bytes]), rootHash: file.head.rootHash })
    expect(server.take().requests).toBe(0)
    expect(await pool.cache.list()).toEqual([])
  })

  test('never runs more loads than it has workers, reuses them and stops idle ones', async () => {
    pool.dispose()
    pool = newPool({ idleMs: 10 })
    await Promise.all(Array.from({ length: 6 }, () => load({ source: serve() })))
    expect(workers.length).toBe(2)
    await expect.poll(() => workers.every(({ terminated }) => terminated)).toBe(true)
    await load({ source: serve() })
    expect(workers.length).toBe(3)
  })

  test('a worker that dies rejects its load at both ends and is replaced', async () => {
    const source = serve(() => ({ stallAt: 3 * CHUNK }))
    const loading = load({ source })
    await expect.poll(() => server.log.at(-1)?.bytes).toBe(3 * CHUNK)
    workers[0].crash('out of memory')
    await expect(loading).rejects.toMatchObject({
      tag: 'worker',
      message: expect.stringContaining('out of memory'),
    })
    await load({ source: serve() })
    expect(workers.length).toBe(2)
  })

  test('two loads of one file fetch it once; aborting one leaves the other', async () => {
    const source = serve()
    await Promise.all([load({ source }), load({ source })])
    expect(server.take()).toEqual({ requests: 1, bytes: file.bytes.length })

    const rootHash = file.head.rootHash
    await pool.cache.clear()
    const controller = new AbortController()
    const first = load(
      { source: serve(({ number }) => (number === 0 ? { stallAt: 2 * CHUNK + 100 } : {})), rootHash },
      { signal: controller.signal },
    )
    const second = load({ source: serve(), rootHash })
    await expect.poll(() => server.log.at(-1)?.bytes).toBe(2 * CHUNK + 100)
    controller.abort()
    await expect(first).rejects.toMatchObject({ name: 'AbortError' })
    expect((await second).stats.networkBytes).toBeLessThanOrEqual(file.bytes.length - CHUNK)
  })

  describe.each([
    ['without storage', undefined, 1e9],
    ['with a cache that is turned off', memoryCacheStorage().storage, 0],
    ['with a cache that is too small', memoryCacheStorage().storage, 1000],
  ])('%s', (_name, storage, cacheBudget) => {
    beforeEach(() => {
      vi.stubGlobal('caches', storage)
      pool.dispose()
      pool = newPool({ settings: { cacheBudget } })
    })

    test('loads of one file at once share one download, by address or by root hash', async () => {
      const { rootHash } = file.head
      const source = serve()
      const loads = [
        load({ source }),
        load({ source }),
        load({ source, rootHash }),
        load({ source: serve() }),
      ]
      await Promise.all(loads)
      // The last one has another address and names no root hash: nobody can know that it is the same.
      expect(server.take()).toEqual({ requests: 2, bytes: 2 * file.bytes.length })
      await Promise.all([load({ source: serve(), rootHash }), load({ source: serve(), rootHash })])
      expect(server.take()).toEqual({ requests: 1, bytes: file.bytes.length })
    })

    test('a load takes over what an aborted one had fetched', async () => {
      const controller = new AbortController()
      const { rootHash, headBytes } = file.head
      const stalled = serve(() => ({ stallAt: headBytes + 2 * CHUNK }))
      const first = pool.load({ source: stalled, rootHash }, { signal: controller.signal })
      const second = load({ source: serve(), rootHash })
      const others = [load({ source: serve() }), load({ source: serve() }), load({ source: serve() })]
      const { chunks } = await receiveFile(first.port, first.signal)
      await chunks.next()
      controller.abort()
      await expect(first.done).rejects.toMatchObject({ name: 'AbortError' })
      await chunks.return()
      await Promise.all(others)
      const { stats } = await second
      expect(stats.requests).toBe(1)
      expect(stats.networkBytes).toBeLessThanOrEqual(file.bytes.length - headBytes - CHUNK)
    })

    test('once no load waits, nothing stays in memory', async () => {
      const source = serve()
      await Promise.all([load({ source }), load({ source })])
      server.take()
      await load({ source })
      expect(server.take()).toEqual({ requests: 1, bytes: file.bytes.length })
    })
  })

  test('a worker can be started before it is needed', async () => {
    pool.warm()
    pool.warm()
    expect(workers.length).toBe(1)
    await load({ source: serve() })
    expect(workers.length).toBe(1)
  })

  test('a load that waits in the queue can be aborted', async () => {
    const stall = () => serve(() => ({ stallAt: CHUNK }))
    const running = new AbortController()
    const busy = [
      load({ source: stall() }, { signal: running.signal }),
      load({ source: stall() }, { signal: running.signal }),
    ]
    const controller = new AbortController()
    const waiting = load({ source: serve() }, { signal: controller.signal })
    controller.abort()
    await expect(waiting).rejects.toMatchObject({ name: 'AbortError' })
    running.abort()
    await Promise.all(busy.map((load) => expect(load).rejects.toMatchObject({ name: 'AbortError' })))
    await load({ source: serve() })
  })

  test('dispose rejects all that is pending', async () => {
    const loads = Array.from({ length: 4 }, () => load({ source: serve(() => ({ stallAt: CHUNK })) }))
    const settled = Promise.allSettled(loads)
    await expect.poll(() => workers.length).toBe(2)
    pool.dispose()
    for (const outcome of await settled) {
      expect(outcome).toMatchObject({ status: 'rejected', reason: { tag: 'released' } })
    }
    await expect(load({ source: serve() })).rejects.toMatchObject({ tag: 'released' })
  })

  test('many at once, some aborted: the others are right and no chunk comes twice', async () => {
    const files = await Promise.all(
      Array.from({ length: 24 }, (_, i) => tritFile({ seed: i + 1, weights: 20_000 })),
    )
    const outcomes = files.map(async ({ bytes, payload, head }, i) => {
      const path = `/many-${i}.trit`
      server.files.set(path, { bytes })
      const { port, done, signal } = pool.load({ source: server.url + path, rootHash: head.rootHash })
      done.catch(() => {})
      try {
        const { chunks } = await receiveFile(port, signal)
        const received = new Uint8Array(payload.length)
        for await (const chunk of chunks) {
          received.set(chunk.bytes, chunk.offset)
          if (i % 3 === 0) return 'left'
        }
        await done
        return Buffer.compare(received, payload) === 0 ? 'right' : 'wrong'
      } catch {
        return 'failed'
      }
    })
    const all = await Promise.all(outcomes)
    expect(all).toEqual(all.map((_, i) => (i % 3 === 0 ? 'left' : 'right')))
    const perFile = server.log.filter(({ path }) => path.startsWith('/many-'))
    expect(perFile.length).toBe(24)
  })
})

describe('prefetch', () => {
  test('fills the cache, so that the load needs no network', async () => {
    const source = serve()
    expect(await pool.prefetch({ source })).toMatchObject({
      status: 'cached',
      file: { rootHash: file.head.rootHash },
    })
    server.take()
    await load({ source, rootHash: file.head.rootHash })
    expect(server.take().requests).toBe(0)
  })

  test('makes way for a foreground load and goes on where it was', async () => {
    const slow = serve(({ number, start }) => (number === 0 ? { stallAt: start + 3 * CHUNK } : {}))
    const prefetch = pool.prefetch({ source: slow })
    await expect.poll(() => server.log.at(-1)?.bytes).toBe(3 * CHUNK)
    await load({ source: serve() })
    expect(await prefetch).toMatchObject({ status: 'cached' })
    const requests = server.log.filter(({ path }) => slow.endsWith(path))
    const fetched = requests.reduce((sum, { bytes }) => sum + bytes, 0)
    expect(fetched - file.bytes.length).toBeLessThanOrEqual(CHUNK + file.head.headBytes)
  })

  test('of the same file is overtaken by its load', async () => {
    const source = serve(({ number }) => (number === 0 ? { stallAt: 2 * CHUNK + 500 } : {}))
    const prefetch = pool.prefetch({ source })
    await expect.poll(() => server.log.at(-1)?.bytes).toBe(2 * CHUNK + 500)
    await load({ source })
    expect(await prefetch).toMatchObject({ status: 'cached' })
  })

  test('does nothing where the visitor saves data or nothing can be stored', async () => {
    vi.stubGlobal('navigator', { connection: { saveData: true } })
    expect(await pool.prefetch({ source: serve() })).toEqual({ status: 'skipped', reason: 'save-data' })
    vi.stubGlobal('navigator', {})
    vi.stubGlobal('caches', undefined)
    pool = newPool()
    expect(await pool.prefetch({ source: serve() })).toEqual({ status: 'skipped', reason: 'no-cache' })
    expect(server.take().requests).toBe(0)
  })
})
