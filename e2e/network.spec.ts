/** Many loads at once, as a restless visitor causes them: aborted, cut by a reload, started again. */
import { createHash } from 'node:crypto'
import { expect, type Page, test } from '@playwright/test'
import { tritFile } from '../tests/fetcher/trit_file.ts'
import type { WantedFile } from './harness/network.ts'
import { type FaultServer, startFaultServer } from './servers/fault_server.ts'

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
  expect(failures).toEqual([])
})
