/**
 * The spine, in numbers: hoisted sessions, experts and reverts against plain transformers.js sessions of the same
 * browser run. One page serves all tests: loading the base on a software adapter is what takes the time.
 *
 * @module
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, type Page, test } from '@playwright/test'
import type { Registry } from '../src/source/registry.ts'
import type {} from './harness/harness.ts'
import { evalFigures } from './support/cli.ts'
import { patchedOnnx } from './support/patched_onnx.ts'
import { LONG, ONLY_LONG } from './support/tier.ts'

const ROOT = new URL('..', import.meta.url).pathname
const PLAIN = join(ROOT, '../shared/demo-model/base')
const BASE = join(ROOT, 'public/models/demo/weights.trit')
const HARNESS = `http://localhost:${process.env.HARNESS_PORT ?? 4320}/e2e/harness/`
const PROMPTS = ['Once upon a time there was', 'The king said to', '.button {\n  color:']
/** The quick tier has few prompts: onnxruntime-web compiles its kernels again for each length. */
const asked = LONG ? PROMPTS : PROMPTS.slice(0, 1)
const TOKENS = asked.map(() => (LONG ? 24 : 4))
const SWITCHES = LONG ? 100 : 10
const registry = JSON.parse(readFileSync(join(ROOT, 'public/experts/experts.json'), 'utf8')) as Registry
const experts = registry.experts.map((expert) => ({
  ...expert,
  path: join(ROOT, 'public/experts', expert.url),
}))
const [first, second] = experts as [(typeof experts)[0], (typeof experts)[0]]
/** Those that are compared with a session patched on the CPU: quick, one of a fine-tuning and one of distilled weights. */
const compared = LONG ? experts : [first, experts.find(({ url }) => /-\d/.test(url)) ?? second]

/** A page of the harness with the ONNX folders of `served` under `/plain/<name>/`. */
async function openHarness(page: Page, served: Record<string, () => Promise<Uint8Array> | Uint8Array>) {
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

test.describe
  .serial('the engine', () => {
    let page: Page
    /** Of the weights before anything was done to them. */
    let hash: string
    let checksum: string

    const load = ({ id, url, rootHash }: (typeof experts)[0]) =>
      page.evaluate(([from, name, root]) => window.harness.load(from, name, root), [
        `/experts/${url}`,
        id,
        rootHash,
      ] as const)
    const activate = (set: [string, number][]) =>
      page.evaluate((chosen) => window.harness.activate(chosen), set)
    const tokens = (prompt: string, count: number, set?: [string, number][]) =>
      page.evaluate(([text, limit, own]) => window.harness.tokens(text, limit, own), [
        prompt,
        count,
        set,
      ] as const)

    test.beforeAll(async ({ browser }) => {
      page = await browser.newPage()
      const files = Object.fromEntries(
        compared.map(({ id, path }) => [id, () => patchedOnnx(join(PLAIN, 'onnx/model.onnx'), BASE, path)]),
      )
      await openHarness(page, files)
      await page.evaluate(() => window.harness.open())
      hash = await page.evaluate(() => window.harness.hash())
      checksum = await page.evaluate(() => window.harness.checksum())
    })
    test.afterAll(() => page.close())

    // First, since what is in VRAM already would not be fetched.
    test('wrong experts are refused with a typed error, and the base goes on', async () => {
      // In the quick tier network.spec.ts has what is wrong with a file, and main.spec.ts what the page goes on with.
      test.skip(!LONG, ONLY_LONG)
      const { url, path } = experts.at(-1)!
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
      const before = await tokens(PROMPTS[0], 3)

      const attempt = (source: string, root?: string) =>
        page.evaluate(([from, known]) => window.harness.tryLoad(from as string, 'bad', known), [source, root])
      expect(await attempt('/bad/flipped.trit')).toMatchObject({ tag: 'integrity' })
      expect(await attempt('/bad/truncated.trit')).toMatchObject({
        tag: expect.stringMatching(/format|network/),
      })
      expect(await attempt('/bad/missing.trit')).toMatchObject({ tag: 'network', fields: { status: 404 } })
      expect(await attempt(`/experts/${url}`, 'f'.repeat(64))).toMatchObject({ tag: 'integrity' })
      expect(await attempt('/models/demo/tokenizer.json')).toMatchObject({ tag: 'format' })

      expect(await page.evaluate(() => window.harness.checksum())).toBe(checksum)
      expect(await tokens(PROMPTS[0], 3)).toEqual(before)
    })

    test.describe('against plain sessions', () => {
      test.skip(!existsSync(PLAIN), `the unhoisted ONNX of the demo base is not at ${PLAIN}`)

      test(`base: the tokens of a plain session, prompts of ${TOKENS.join(', ')}`, async () => {
        const plain = await page.evaluate(
          ([prompts, counts]) => window.harness.plain('/plain/base/', prompts, counts),
          [asked, TOKENS] as const,
        )
        for (const [i, prompt] of asked.entries()) {
          const found = await tokens(prompt, TOKENS[i])
          expect(found).toEqual(plain[i].tokens)
          expect(found).toHaveLength(TOKENS[i])
        }
      })

      test(`${compared.length} bundled experts: the logits of a session patched on the CPU; no decode there, no bytes here`, async () => {
        const before = await page.evaluate(() => window.harness.stats())
        const received = await page.evaluate(() => window.harness.received.messageBytes)
        for (const expert of compared) {
          const { id, bytes } = expert
          const uploaded = await page.evaluate(() =>
            window.harness.stats().then((stats) => stats.expertBytesUploaded),
          )
          await load(expert)
          const stats = await page.evaluate(() => window.harness.stats())
          expect(stats.expertBytesUploaded - uploaded).toBeLessThanOrEqual(bytes)
          expect(stats.expertBytesUploaded - uploaded).toBeGreaterThan(0)
          await activate([[id, 1]])
          const found = []
          for (const prompt of asked)
            found.push(await page.evaluate((text) => window.harness.logits(text), prompt))
          const plain = await page.evaluate(
            ([name, prompts]) => window.harness.plain(`/plain/${name}/`, prompts, []),
            [id, asked] as const,
          )
          for (const [i, logits] of found.entries()) {
            expect(largestDifference(logits, plain[i].logits), `${id}: ${asked[i]}`).toBeLessThanOrEqual(1e-3)
          }
        }
        const after = await page.evaluate(() => window.harness.stats())
        expect(after.counts.cpuDecodes).toBe(0)
        expect(after.counts.uploads - before.counts.uploads).toBe(compared.length)
        // Logits came as messages (16 kB each), and what the page is told of a file (sketch included); nothing of the
        // size of weights did, and the page fetched none itself.
        const { messageBytes, fetched } = await page.evaluate(() => window.harness.received)
        const logitBytes = compared.length * asked.length * 4096 * 4
        expect(messageBytes - received).toBeLessThanOrEqual(logitBytes + compared.length * 1024)
        expect(
          fetched.filter((url) => /\.(trit|onnx|safetensors)/.test(url) && !url.includes('/plain/')),
        ).toEqual([])
      })
    })

    test(`revert: ${SWITCHES} random switches, then every weight has the bits it had`, async () => {
      for (const expert of experts) await load(expert)
      const random = generator(3)
      for (let i = 0; i < SWITCHES; i++) {
        const set = Array.from(
          { length: random(4) },
          () => [experts[random(experts.length)].id, (random(5) + 1) / 2] as [string, number],
        )
        const distinct = set.filter(([id], at) => set.findIndex(([other]) => other === id) === at)
        await activate(distinct)
        // Now and then: on a software adapter a checksum takes longer than a switch.
        if (i % 10 === 0 && distinct.length > 0)
          expect(await page.evaluate(() => window.harness.checksum())).not.toBe(checksum)
      }
      await activate([])
      expect(await page.evaluate(() => window.harness.hash())).toBe(hash)
      expect(await page.evaluate(() => window.harness.checksum())).toBe(checksum)
    })

    test('two generations at once, each with experts of its own, write what each writes alone', async () => {
      // In the quick tier switch_order.test.ts and switch_order.browser.test.ts have passes of several callers.
      test.skip(!LONG, ONLY_LONG)
      await load(first)
      await load(second)
      const sets: [string, number][][] = [[[first.id, 1]], [[second.id, 1]], []]
      const written = (set: [string, number][]) => tokens(PROMPTS[0], 8, set)
      const alone = []
      for (const set of sets) alone.push(await written(set))
      expect(await Promise.all(sets.map(written))).toEqual(alone)
      expect(new Set(alone.map(String)).size).toBeGreaterThan(1)
    })

    test('evaluation: the first windows of a row of `npm run eval`, on WebGPU', async () => {
      // In the quick tier the logits above and score.test.ts hold it.
      test.skip(!LONG, ONLY_LONG)
      const expert = experts.find(({ id }) => id === 'css')!
      const windows = [0, 256]
      const json = test.info().outputPath('eval.json')
      const bpb = evalFigures(['--experts', expert.id, '--windows', String(windows.length)], json)
      await load(expert)
      const text = readFileSync(join(ROOT, 'public/texts', `${expert.id}.txt`), 'utf8')
      const bitsPerByte = (set: [string, number][]) =>
        page.evaluate(
          async ([whole, starts, own]) => {
            const all = await window.harness.tokenize(whole)
            let [bits, bytes] = [0, 0]
            for (const start of starts) {
              const score = await window.harness.score(all.slice(start, start + 256), own)
              bits += score.bits
              bytes += score.bytes
            }
            return bits / bytes
          },
          [text, windows, set] as const,
        )
      expect(await bitsPerByte([])).toBeCloseTo(bpb.base, 4)
      expect(await bitsPerByte([[expert.id, 1]])).toBeCloseTo(bpb.compressed, 4)
    })

    test('attachExperts: a pipeline of people’s own goes on unchanged, with experts', async () => {
      // In the quick tier compat.spec.ts has a bare session, and embed.spec.ts the pipeline of the README.
      test.skip(!LONG, ONLY_LONG)
      test.skip(!existsSync(PLAIN), `the unhoisted ONNX of the demo base is not at ${PLAIN}`)
      const { url } = first
      const texts = await page.evaluate(
        ([text, count, expert]) => window.harness.attached('/plain/base/', text, count, expert),
        [PROMPTS[0], 8, `/experts/${url}`] as const,
      )
      expect(texts.attached).toBe(texts.plain)
      expect(texts.active).not.toBe(texts.plain)
      expect(texts.after).toBe(texts.plain)
      expect(texts.exact).toBe(true)
    })

    test.describe('broken off', () => {
      /** Ends a generation that has begun, and then goes on as if nothing had happened. */
      async function interrupted(harm: () => Promise<unknown>, tag: string) {
        await load(first)
        await activate([[first.id, 1]])
        const before = await tokens(PROMPTS[0], 3)
        const running = page.evaluate((prompt) => window.harness.tryTokens(prompt, 200), PROMPTS[0])
        await page.waitForFunction(() => window.harness.written > 0)
        await harm()
        expect(await running).toMatchObject({ tag })
        expect(await tokens(PROMPTS[0], 3)).toEqual(before)
        await activate([])
        expect(await page.evaluate(() => window.harness.hash())).toBe(hash)
      }

      test('a dead worker ends its calls with a typed error; the next call goes on as before', async () => {
        // In the quick tier loader.test.ts has the worker that dies.
        test.skip(!LONG, ONLY_LONG)
        const engine = page.workers().find((worker) => worker.url().includes('engine/worker'))
        await interrupted(async () => engine?.evaluate(() => self.close()), 'worker')
      })

      test('so does a lost device', async ({ browser }) => {
        // In the quick tier states.spec.ts crashes the GPU process, while the page writes.
        test.skip(!LONG, ONLY_LONG)
        const session = await browser.newBrowserCDPSession()
        await interrupted(() => session.send('Browser.crashGpuProcess').catch(() => {}), 'device-lost')
      })
    })
  })

/** The same choices in every run. */
function generator(seed: number) {
  let state = seed
  return (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}
