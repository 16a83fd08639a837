/** Many loads at once: aborted, cut by a reload, started again. */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { type CDPSession, expect, type Page, test } from '@playwright/test'
import type { Registry } from '../src/source/registry.ts'
import { tritFile } from '../tests/fetcher/trit_file.ts'
import type {} from './harness/harness.ts'
import type { WantedFile } from './harness/network.ts'
import { type FaultServer, type ServedFile, startFaultServer } from './servers/fault_server.ts'
import { LONG, ONLY_LONG } from './support/tier.ts'

const HARNESS = `http://localhost:${process.env.HARNESS_PORT ?? 4320}/e2e/harness/network.html`
const CHUNK = 1 << 16

let server: FaultServer
test.beforeAll(async () => {
  server = await startFaultServer({ bitsPerSecond: 8e6, latencyMs: 20 })
})
test.afterAll(() => server.close())

async function open(page: Page): Promise<void> {
  await page.goto(HARNESS)
  await page.waitForFunction(() => 'network' in window)
}

/** Bytes of the heap of the page after a collection. */
async function heap(page: Page): Promise<number> {
  const session = await page.context().newCDPSession(page)
  await session.send('HeapProfiler.collectGarbage')
  const { usedSize } = await session.send('Runtime.getHeapUsage')
  await session.detach()
  return usedSize
}

/** Bytes of the heaps of the page's workers, buffers included, after a collection. */
async function workerHeaps(page: Page): Promise<number[]> {
  const session = await page.context().newCDPSession(page)
  const workers: string[] = []
  const answers = new Map<string, (result: { usedSize: number; backingStorageSize: number }) => void>()
  session.on('Target.attachedToTarget', ({ sessionId, targetInfo }) => {
    if (targetInfo.type === 'worker') workers.push(sessionId)
  })
  session.on('Target.receivedMessageFromTarget', ({ sessionId, message }) => {
    const { id, result } = JSON.parse(message)
    if (id === 2) answers.get(sessionId)?.(result)
  })
  const attach = { autoAttach: true, waitForDebuggerOnStart: false, flatten: false }
  await session.send('Target.setAutoAttach', attach)
  const heaps = workers.map(async (sessionId) => {
    const answer = new Promise<{ usedSize: number; backingStorageSize: number }>((resolve) =>
      answers.set(sessionId, resolve),
    )
    for (const [i, method] of ['HeapProfiler.collectGarbage', 'Runtime.getHeapUsage'].entries()) {
      const message = JSON.stringify({ id: i + 1, method })
      await session.send('Target.sendMessageToTarget', { sessionId, message })
    }
    const { usedSize, backingStorageSize } = await answer
    return usedSize + backingStorageSize
  })
  const sizes = await Promise.all(heaps)
  await session.detach()
  return sizes
}

/** CPU time of the page's main thread, ms; other load on the machine does not change it. */
async function mainThreadTime(session: CDPSession): Promise<number> {
  const { metrics } = await session.send('Performance.getMetrics')
  const { value } = metrics.find(({ name }) => name === 'ThreadTime')!
  return 1000 * value
}

const count = (outcomes: Record<string, string>, outcome: string) =>
  Object.values(outcomes).filter((found) => found === outcome).length

test('50 loads at once, 20 aborted, the page reloaded in the middle', async ({ page }) => {
  const failures: string[] = []
  page.on('pageerror', (error) => failures.push(String(error)))
  const files: (WantedFile & { path: string; size: number })[] = []
  for (let i = 0; i < 50; i++) {
    const { bytes, payload, head } = await tritFile({ seed: i + 1, weights: 32_000 })
    const path = `/${i}.trit`
    server.files.set(path, { bytes })
    const sha256 = createHash('sha256').update(payload).digest('hex')
    files.push({ source: server.url + path, rootHash: head.rootHash, sha256, path, size: bytes.length })
  }
  await open(page)
  await page.evaluate(() => window.network.clear())
  await page.reload()
  await page.waitForFunction(() => 'network' in window)
  const before = await heap(page)

  await page.evaluate((all) => window.network.start(all), files)
  // A fixed choice, spread over those that run and those that wait.
  const aborted = files.filter((_, i) => (i * 7) % 5 < 2)
  expect(aborted.length).toBe(20)
  for (const { source } of aborted) await page.evaluate((url) => window.network.abort(url), source)
  await page.waitForFunction(
    () => Object.values(window.network.outcomes()).filter((o) => o === 'right').length >= 8,
  )
  const middle = await page.evaluate(() => window.network.outcomes())
  expect(count(middle, 'aborted')).toBe(20)
  await page.reload()
  await page.waitForFunction(() => 'network' in window)

  const wanted = files.filter((file) => !aborted.includes(file))
  await page.evaluate((all) => window.network.start(all), wanted)
  await page.waitForFunction(() => !Object.values(window.network.outcomes()).includes('pending'))
  expect(count(await page.evaluate(() => window.network.outcomes()), 'right')).toBe(30)

  for (const { path, size, source, rootHash } of wanted) {
    const sent = server.log
      .filter((record) => record.path === path)
      .reduce((sum, { bytes }) => sum + bytes, 0)
    // A reload loses the chunk that was being filled, the one being stored, and what the server had written ahead.
    const cut = middle[source] === 'right' ? 0 : 2 * CHUNK + (1 << 16)
    expect(sent, path).toBeGreaterThanOrEqual(size)
    expect(sent, path).toBeLessThanOrEqual(size + cut)
    expect(await page.evaluate(() => window.network.cached())).toContain(rootHash)
  }

  server.take()
  await page.evaluate((all) => window.network.start(all), wanted)
  await page.waitForFunction(() => !Object.values(window.network.outcomes()).includes('pending'))
  expect(count(await page.evaluate(() => window.network.outcomes()), 'right')).toBe(30)
  expect(server.take(), 'a warm load asks nothing').toEqual({ requests: 0, bytes: 0 })

  // 30 payloads went through twice: 23 MB.
  expect((await heap(page)) - before).toBeLessThan(2e6)
  expect(await workerHeaps(page)).toHaveLength(4)
  // What a worker has just handed over is freed by a later collection than the first.
  await expect.poll(async () => Math.max(...(await workerHeaps(page)))).toBeLessThan(4e6)
  expect(failures).toEqual([])
})

/** New files on the server. */
async function serveFiles(folder: string, seeds: number[]): Promise<(WantedFile & { size: number })[]> {
  return Promise.all(
    seeds.map(async (seed) => {
      const { bytes, payload, head } = await tritFile({ seed, weights: 32_000 })
      server.files.set(`/${folder}/${seed}.trit`, { bytes })
      const sha256 = createHash('sha256').update(payload).digest('hex')
      const source = `${server.url}/${folder}/${seed}.trit`
      return { source, rootHash: head.rootHash, sha256, size: bytes.length }
    }),
  )
}

async function allRight(page: Page, files: WantedFile[]): Promise<void> {
  await page.waitForFunction(() => !Object.values(window.network.outcomes()).includes('pending'))
  expect(await page.evaluate(() => window.network.outcomes())).toEqual(
    Object.fromEntries(files.map(({ source }) => [source, 'right'])),
  )
}

test('two tabs that load the same files at once', async ({ page, context }) => {
  const other = await context.newPage()
  const files = await serveFiles('tabs', [101, 102, 103, 104, 105, 106])
  for (const tab of [page, other]) await open(tab)
  await Promise.all([page, other].map((tab) => tab.evaluate((all) => window.network.start(all), files)))
  for (const tab of [page, other]) await allRight(tab, files)
  server.take()
  await page.reload()
  await page.waitForFunction(() => 'network' in window)
  await page.evaluate((all) => window.network.start(all), files)
  await allRight(page, files)
  expect(server.take().requests).toBe(0)
})

test('a browser that grants too little storage', async ({ page }) => {
  const files = await serveFiles('quota', [111, 112])
  await open(page)
  const session = await page.context().newCDPSession(page)
  const { origin } = new URL(HARNESS)
  await session.send('Storage.clearDataForOrigin', { origin, storageTypes: 'all' })
  await session.send('Storage.overrideQuotaForOrigin', { origin, quotaSize: files[0].size / 2 })
  await page.evaluate((all) => window.network.start(all), files)
  await allRight(page, files)
  expect(await page.evaluate(() => window.network.cached())).toEqual([])
  expect(await page.evaluate(() => window.network.warnings())).toEqual([
    expect.stringContaining('not cached for the next visit'),
  ])
  await session.send('Storage.overrideQuotaForOrigin', { origin })
})

test('the base stays bit-exact, whatever goes wrong on the way of an expert', async ({ page }) => {
  const folder = new URL('../public/experts/', import.meta.url)
  const registry = JSON.parse(readFileSync(new URL('experts.json', folder), 'utf8')) as Registry
  const middle = 2 * CHUNK
  const files = registry.experts
    .map(({ url, rootHash }) => ({ rootHash, bytes: new Uint8Array(readFileSync(new URL(url, folder))) }))
    .filter(({ bytes }) => bytes.length > middle + 1000)
  /** How a load ends, and its requests. */
  const faults: Record<string, { script: ServedFile['script']; ends: string; requests: number }> = {
    'a cut': { script: ({ number }) => (number ? {} : { cutAt: middle }), ends: 'loaded', requests: 2 },
    'no Range': { script: () => ({ ignoreRange: true }), ends: 'loaded', requests: 1 },
    'a wrong Content-Range': {
      script: () => ({ contentRange: 'bytes 1-2/3', headers: { 'Access-Control-Expose-Headers': '*' } }),
      ends: 'network: bytes 1-2/3',
      requests: 1,
    },
    'a body that always ends early': {
      script: ({ start }) => ({ endAt: Math.max(start, middle) }),
      ends: 'format: truncated',
      requests: 2,
    },
    'a byte that is always flipped': {
      script: () => ({ flip: middle }),
      ends: 'integrity: does not have the hash',
      requests: 2,
    },
    'another file': { script: () => ({ flip: 40 }), ends: 'integrity: root hash', requests: 1 },
    '404': { script: () => ({ status: 404 }), ends: 'network: answered 404', requests: 1 },
    '403 without CORS': {
      script: () => ({ status: 403, headers: { 'Access-Control-Allow-Origin': 'https://nobody.invalid' } }),
      ends: 'network: Access-Control-Allow-Origin',
      requests: 3,
    },
    '429, then fine': {
      script: ({ number }) => (number ? {} : { status: 429, headers: { 'Retry-After': '0' } }),
      ends: 'loaded',
      requests: 2,
    },
    '503 for ever': { script: () => ({ status: 503 }), ends: 'network: answered 503', requests: 3 },
    'a compressed body': { script: () => ({ gzip: true, ignoreRange: true }), ends: 'loaded', requests: 2 },
  }
  await page.goto(new URL('./', HARNESS).href)
  await page.waitForFunction(() => 'harness' in window)
  await page.evaluate(() =>
    window.harness.open({ fetch: { cacheBudget: 0, retry: { attempts: 3, baseMs: 20 } } }),
  )
  const base = await page.evaluate(() => window.harness.hash())
  const received = await page.evaluate(() => window.harness.received.messageBytes)
  const session = await page.context().newCDPSession(page)
  await session.send('Performance.enable', { timeDomain: 'threadTicks' })
  const mainThread: Record<string, number> = {}

  for (const [name, { script, ends, requests }] of Object.entries(faults)) {
    await test.step(name, async () => {
      const path = `/engine/${encodeURIComponent(name)}.trit`
      // What is in VRAM already would not be fetched: those that come through are taken off the list.
      const { bytes, rootHash } = ends === 'loaded' ? (files.shift() ?? files[0]) : files[0]
      server.files.set(decodeURIComponent(path), { bytes, script })
      const from = await mainThreadTime(session)
      const error = await page.evaluate(
        ([source, id, root]) => window.harness.tryLoad(source, id, root),
        [server.url + path, name, rootHash],
      )
      mainThread[name] = (await mainThreadTime(session)) - from
      const [tag, message] = ends.split(': ')
      if (ends === 'loaded') {
        expect(error).toBeUndefined()
      } else {
        expect(error).toMatchObject({ tag, message: expect.stringContaining(message) })
        expect(error?.message).toContain(server.url + path)
      }
      const asked = server.log.filter((record) => record.path === decodeURIComponent(path))
      expect(asked).toHaveLength(requests)
      expect(await page.evaluate(() => window.harness.hash())).toBe(base)
    })
  }
  // Experts that came through are in VRAM all the same, and no more than sketches of them went through this thread.
  expect(await page.evaluate(() => window.harness.received.messageBytes)).toBeLessThan(received + 10_000)
  expect((await page.evaluate(() => window.harness.stats())).counts.uploads).toBe(
    Object.values(faults).filter(({ ends }) => ends === 'loaded').length,
  )
  // A task is long from 50 ms: a load whose tasks have less than that all together adds none to those of the page.
  test.info().annotations.push({ type: 'main thread, ms', description: JSON.stringify(mainThread) })
  for (const [name, ms] of Object.entries(mainThread)) expect(ms, name).toBeLessThan(50)
})

test('a base that was here before opens while its server is out of reach', async ({ page }) => {
  // In the quick tier offline_copy.test.ts has the copies, and states.spec.ts a page that goes offline.
  test.skip(!LONG, ONLY_LONG)
  const open = async () => {
    await page.goto(new URL('./', HARNESS).href)
    await page.waitForFunction(() => 'harness' in window)
    await page.evaluate(() => window.harness.open())
    return page.evaluate(() => window.harness.hash())
  }
  const first = await open()
  const refused: string[] = []
  await page.route('**/models/**', (route) => {
    refused.push(new URL(route.request().url()).pathname)
    return route.abort('connectionrefused')
  })
  expect(await open()).toBe(first)
  // Whether the server is there is asked once; what belongs to a copy of the manifest is a copy, too.
  expect(refused).toEqual(['/models/demo/tritswap.json'])
})
