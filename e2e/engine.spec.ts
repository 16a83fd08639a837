/**
 * The spine, in numbers: hoisted sessions, experts and reverts against plain transformers.js sessions of the same
 * browser run.
 *
 * @module
 */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, type Page, test } from '@playwright/test'
import type { Registry } from '../src/source/registry.ts'
import type {} from './harness/harness.ts'
import { patchedOnnx } from './support/patched_onnx.ts'

const ROOT = new URL('..', import.meta.url).pathname
const PLAIN = join(ROOT, '../shared/demo-model/base')
const BASE = join(ROOT, 'public/models/demo/weights.trit')
const HARNESS = `http://localhost:${process.env.HARNESS_PORT ?? 4320}/e2e/harness/`
const PROMPTS = ['Once upon a time there was', 'The king said to', '.button {\n  color:']
/** `LONG=1` asks for all tokens, prompts and switches; without it a software adapter is done minutes earlier. */
const LONG = process.env.LONG === '1'
const TOKENS = LONG ? [24, 24, 24] : [16, 6, 6]
const SWITCHES = LONG ? 100 : 40
const registry = JSON.parse(readFileSync(join(ROOT, 'public/experts/experts.json'), 'utf8')) as Registry
const experts = registry.experts.map((expert) => ({
  ...expert,
  path: join(ROOT, 'public/experts', expert.url),
}))

/** A page of the harness with the ONNX folders of `served` under `/plain/<name>/`. */
async function openHarness(page: Page, served: Record<string, () => Promise<Uint8Array> | Uint8Array> = {}) {
  await page.route('**/plain/**', async (route) => {
    const [, name, file] = /\/plain\/([^/]+)\/(.+)$/.exec(route.request().url()) ?? []
    if (file === 'onnx/model.onnx' && served[name])
      return route.fulfill({ body: Buffer.from(await served[name]()) })
    const path = join(PLAIN, file)
    return existsSync(path) ? route.fulfill({ path }) : route.fulfill({ status: 404 })
  })
  await page.goto(HARNESS)
  await page.waitForFunction(() => 'harness' in window)
}

function largestDifference(a: readonly number[], b: readonly number[]): number {
  expect(a.length).toBe(b.length)
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0)
}

/** The same choices in every run. */
function generator(seed: number) {
  let state = seed
  return (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

test.describe('against plain sessions', () => {
  test.skip(!existsSync(PLAIN), `the unhoisted ONNX of the demo base is not at ${PLAIN}`)

  test(`base: the tokens of a plain session, three prompts of ${TOKENS.join(', ')}`, async ({ page }) => {
    await openHarness(page)
    const plain = await page.evaluate(
      ([prompts, counts]) => window.harness.plain('/plain/base/', prompts, counts),
      [PROMPTS, TOKENS] as const,
    )
    await page.evaluate(() => window.harness.open())
    for (const [i, prompt] of PROMPTS.entries()) {
      const tokens = await page.evaluate(([text, count]) => window.harness.tokens(text, count), [
        prompt,
        TOKENS[i],
      ] as const)
      expect(tokens).toEqual(plain[i].tokens)
      expect(tokens).toHaveLength(TOKENS[i])
    }
  })

  test('attachExperts: a pipeline of people’s own goes on unchanged, with experts', async ({ page }) => {
    await openHarness(page)
    const { url, prompt = PROMPTS[0] } = experts[0]
    const texts = await page.evaluate(
      ([text, expert]) => window.harness.attached('/plain/base/', text, 8, expert),
      [prompt, `/experts/${url}`],
    )
    expect(texts.attached).toBe(texts.plain)
    expect(texts.active).not.toBe(texts.plain)
    expect(texts.after).toBe(texts.plain)
    expect(texts.exact).toBe(true)
  })

  test('every bundled expert: the logits of a session patched on the CPU; no decode there, no bytes here', async ({
    page,
  }) => {
    const files = Object.fromEntries(
      experts.map(({ id, path }) => [id, () => patchedOnnx(join(PLAIN, 'onnx/model.onnx'), BASE, path)]),
    )
    await openHarness(page, files)
    await page.evaluate(() => window.harness.open())
    const before = await page.evaluate(() => window.harness.stats())
    for (const [nth, { id, url, rootHash, bytes }] of experts.entries()) {
      const asked = LONG || nth === 0 ? PROMPTS : [PROMPTS[nth % PROMPTS.length]]
      const uploaded = await page.evaluate(() =>
        window.harness.stats().then((stats) => stats.expertBytesUploaded),
      )
      await page.evaluate(
        ([from, name, hash]) => window.harness.load(from, name, hash),
        [`/experts/${url}`, id, rootHash],
      )
      const stats = await page.evaluate(() => window.harness.stats())
      expect(stats.expertBytesUploaded - uploaded).toBeLessThanOrEqual(bytes)
      expect(stats.expertBytesUploaded - uploaded).toBeGreaterThan(0)
      await page.evaluate((name) => window.harness.activate([[name, 1]]), id)
      const ours = []
      for (const prompt of asked)
        ours.push(await page.evaluate((text) => window.harness.logits(text), prompt))
      const plain = await page.evaluate(
        ([name, prompts]) => window.harness.plain(`/plain/${name}/`, prompts, []),
        [id, asked] as const,
      )
      for (const [i, logits] of ours.entries()) {
        expect(largestDifference(logits, plain[i].logits), `${id}: ${asked[i]}`).toBeLessThanOrEqual(1e-3)
      }
    }
    const after = await page.evaluate(() => window.harness.stats())
    expect(after.counts.cpuDecodes).toBe(0)
    expect(after.counts.uploads - before.counts.uploads).toBe(experts.length)
    const received = await page.evaluate(() => window.harness.received)
    // Logits came as messages (16 kB each), and what the page is told of a file (sketch included); nothing of the
    // size of weights did, and the page fetched none itself.
    const logitBytes = experts.length * PROMPTS.length * 4096 * 4
    expect(received.messageBytes).toBeLessThanOrEqual(logitBytes + experts.length * 1024)
    expect(received.fetched.filter((url) => /\.(trit|onnx|safetensors)/.test(url))).toEqual([])
  })
})

test(`revert: ${SWITCHES} random switches, then every weight has the bits it had`, async ({ page }) => {
  await openHarness(page)
  await page.evaluate(() => window.harness.open())
  const hash = await page.evaluate(() => window.harness.hash())
  const checksum = await page.evaluate(() => window.harness.checksum())
  for (const { id, url, rootHash } of experts) {
    await page.evaluate(
      ([from, name, root]) => window.harness.load(from, name, root),
      [`/experts/${url}`, id, rootHash],
    )
  }
  const random = generator(3)
  for (let i = 0; i < SWITCHES; i++) {
    const set = Array.from(
      { length: random(4) },
      () => [experts[random(experts.length)].id, (random(5) + 1) / 2] as [string, number],
    )
    const distinct = set.filter(([id], at) => set.findIndex(([other]) => other === id) === at)
    await page.evaluate((chosen) => window.harness.activate(chosen), distinct)
    // Now and then: on a software adapter a checksum takes longer than a switch.
    if (i % 10 === 0 && distinct.length > 0)
      expect(await page.evaluate(() => window.harness.checksum())).not.toBe(checksum)
  }
  await page.evaluate(() => window.harness.activate([]))
  expect(await page.evaluate(() => window.harness.hash())).toBe(hash)
  expect(await page.evaluate(() => window.harness.checksum())).toBe(checksum)
})

test('wrong experts are refused with a typed error, and the base goes on', async ({ page }) => {
  await openHarness(page)
  const [{ url, rootHash, path }] = experts
  const file = readFileSync(path)
  await page.route('**/bad/truncated.trit', (route) =>
    route.fulfill({ body: file.subarray(0, file.length - 1000) }),
  )
  await page.route('**/bad/flipped.trit', (route) => {
    const flipped = Buffer.from(file)
    flipped[flipped.length - 5000] ^= 4
    return route.fulfill({ body: flipped })
  })
  await page.route('**/bad/missing.trit', (route) => route.fulfill({ status: 404 }))
  await page.evaluate(() => window.harness.open())
  const hash = await page.evaluate(() => window.harness.hash())
  const tokens = await page.evaluate((prompt) => window.harness.tokens(prompt, 6), PROMPTS[0])

  const attempt = (source: string, root?: string) =>
    page.evaluate(([from, known]) => window.harness.tryLoad(from as string, 'bad', known), [source, root])
  expect(await attempt('/bad/flipped.trit')).toMatchObject({ tag: 'integrity' })
  expect(await attempt('/bad/truncated.trit')).toMatchObject({ tag: expect.stringMatching(/format|network/) })
  expect(await attempt('/bad/missing.trit')).toMatchObject({ tag: 'network', fields: { status: 404 } })
  expect(await attempt(`/experts/${url}`, 'f'.repeat(64))).toMatchObject({ tag: 'integrity' })
  expect(await attempt('/models/demo/tokenizer.json')).toMatchObject({ tag: 'format' })

  expect(await page.evaluate(() => window.harness.hash())).toBe(hash)
  expect(await page.evaluate((prompt) => window.harness.tokens(prompt, 6), PROMPTS[0])).toEqual(tokens)
  await page.evaluate(
    ([from, root]) => window.harness.load(from, 'good', root),
    [`/experts/${url}`, rootHash],
  )
})

test('a lost device and a dead worker end their calls with a typed error; the next call goes on as before', async ({
  page,
  browser,
}) => {
  await openHarness(page)
  const [{ id, url, rootHash }] = experts
  await page.evaluate(() => window.harness.open())
  const base = await page.evaluate(() => window.harness.hash())
  await page.evaluate(
    ([from, name, root]) => window.harness.load(from, name, root),
    [`/experts/${url}`, id, rootHash],
  )
  await page.evaluate((name) => window.harness.activate([[name, 1]]), id)
  const tokens = await page.evaluate((prompt) => window.harness.tokens(prompt, 6), PROMPTS[2])

  const interrupted = async (harm: () => Promise<unknown>) => {
    const running = page.evaluate((prompt) => window.harness.tryTokens(prompt, 200), PROMPTS[2])
    await page.waitForTimeout(1000)
    await harm()
    return running
  }
  const session = await browser.newBrowserCDPSession()
  expect(await interrupted(() => session.send('Browser.crashGpuProcess').catch(() => {}))).toMatchObject({
    tag: 'device-lost',
  })
  expect(await page.evaluate((prompt) => window.harness.tokens(prompt, 6), PROMPTS[2])).toEqual(tokens)

  const engine = page.workers().find((worker) => worker.url().includes('engine/worker'))
  expect(await interrupted(async () => engine?.evaluate(() => self.close()))).toMatchObject({ tag: 'worker' })
  expect(await page.evaluate((prompt) => window.harness.tokens(prompt, 6), PROMPTS[2])).toEqual(tokens)
  await page.evaluate(() => window.harness.activate([]))
  expect(await page.evaluate(() => window.harness.hash())).toBe(base)
})

test('two generations at once, each with experts of its own, write what each writes alone', async ({
  page,
}) => {
  await openHarness(page)
  await page.evaluate(() => window.harness.open())
  const [first, second] = experts
  for (const { id, url, rootHash } of [first, second]) {
    await page.evaluate(
      ([from, name, root]) => window.harness.load(from, name, root),
      [`/experts/${url}`, id, rootHash],
    )
  }
  const tokens = (set: [string, number][]) =>
    page.evaluate(([prompt, own]) => window.harness.tokens(prompt, 8, own), [PROMPTS[0], set] as const)
  const sets: [string, number][][] = [[[first.id, 1]], [[second.id, 1]], []]
  const alone = []
  for (const set of sets) alone.push(await tokens(set))
  expect(await Promise.all(sets.map(tokens))).toEqual(alone)
  expect(new Set(alone.map(String)).size).toBeGreaterThan(1)
})

test('evaluation: two windows of a row of `npm run eval`, on WebGPU', async ({ page }) => {
  const { id, url, rootHash } = experts.find(({ text }) => text?.endsWith('css.txt')) ?? experts[0]
  const run = (...args: string[]) => execFileSync(process.execPath, args, { cwd: ROOT, encoding: 'utf8' })
  run('node_modules/vite/bin/vite.js', 'build', '--config', 'vite.cli.config.ts', '--logLevel', 'error')
  const json = test.info().outputPath('eval.json')
  run('dist/cli.js', 'eval', '--experts', id, '--windows', '2', '--json', json)
  const [row] = (
    JSON.parse(readFileSync(json, 'utf8')) as { experts: { id: string; bpb: Record<string, number> }[] }
  ).experts

  await openHarness(page)
  await page.evaluate(() => window.harness.open())
  await page.evaluate(
    ([from, name, root]) => window.harness.load(from, name, root),
    [`/experts/${url}`, id, rootHash],
  )
  const text = readFileSync(join(ROOT, 'public/texts', `${id}.txt`), 'utf8')
  const bitsPerByte = (set: [string, number][]) =>
    page.evaluate(
      async ([whole, own]) => {
        const tokens = await window.harness.tokenize(whole)
        let [bits, bytes] = [0, 0]
        for (const start of [0, 256]) {
          const score = await window.harness.score(tokens.slice(start, start + 256), own)
          bits += score.bits
          bytes += score.bytes
        }
        return bits / bytes
      },
      [text, set] as const,
    )
  expect(await bitsPerByte([])).toBeCloseTo(row.bpb.base, 4)
  expect(await bitsPerByte([[id, 1]])).toBeCloseTo(row.bpb.compressed, 4)
})
