/**
 * Experts beside the weights of a base that stays quantized, against the sums of their changes computed on the CPU.
 *
 * @module
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, type Page, test } from '@playwright/test'
import { openFile, openFolder } from '../src/cli/file_source.ts'
import { type Feeds, loadOrt, NodeSession } from '../src/cli/node_session.ts'
import { prepareModel } from '../src/cli/prepare_model.ts'
import { adapterTaskVector } from '../src/compress/adapter.ts'
import { openCheckpoint } from '../src/compress/checkpoint.ts'
import { compressTaskVector } from '../src/compress/compress.ts'
import { memorySpool, readHead, weightsOf } from '../src/format/index.ts'
import { ReferenceWeights } from '../src/reference/index.ts'
import type { Registry } from '../src/source/registry.ts'
import type { HarnessSet } from './harness/harness.ts'
import { evalFigures } from './support/cli.ts'
import { LONG, ONLY_LONG } from './support/tier.ts'

const ROOT = new URL('..', import.meta.url).pathname
const PLAIN = join(ROOT, '../shared/demo-model/base')
const HARNESS = `http://localhost:${process.env.HARNESS_PORT ?? 4320}/e2e/harness/`
const PROMPT = '.button {\n  color:'
const registry = JSON.parse(readFileSync(join(ROOT, 'public/experts/experts.json'), 'utf8')) as Registry
const urlOf = (id: string) => registry.experts.find((expert) => expert.id === id)!.url
const pathOf = (id: string) => join(ROOT, 'public/experts', urlOf(id))
/** Logits here are from −20 to 20, and both sides round differently. */
const TOLERANCE = 1e-2
/** Switches and re-reading take minutes on a software adapter. */
const SWITCHES = 20

test.skip(!existsSync(PLAIN), `the ONNX folder of the demo base is not at ${PLAIN}`)

let out: string
test.beforeAll(() => {
  out = mkdtempSync(join(tmpdir(), 'tritswap-bindings-'))
})
test.afterAll(() => rmSync(out, { recursive: true, force: true }))

/** A base with float weights on the CPU, and sums of changes merged into it. */
class CpuModel {
  readonly #weights: ReferenceWeights
  readonly #session: NodeSession
  readonly #file: string

  private constructor(weights: ReferenceWeights, session: NodeSession, file: string) {
    this.#weights = weights
    this.#session = session
    this.#file = file
  }

  static async open(dtype: 'fp32' | 'q4'): Promise<CpuModel> {
    const folder = join(out, dtype)
    const { manifest } = await prepareModel(PLAIN, folder, { dtype, storage: 'f32' })
    const source = await openFile(join(folder, 'weights.trit'))
    const weights = await ReferenceWeights.open(source)
    await source.close()
    const [file] = manifest.graphs
    return new CpuModel(weights, await NodeSession.create(readFileSync(join(folder, file))), file)
  }

  async logits(tokens: number[], set: HarnessSet): Promise<Float32Array> {
    const { data, vocabulary } = await this.#session.logits(tokens, await this.#feeds(set))
    return data.slice(-vocabulary)
  }

  /** Of the last token with one set, over what another one left in the cache. */
  async logitsAfter(tokens: number[], before: HarnessSet, now: HarnessSet): Promise<Float32Array> {
    const { Tensor } = await loadOrt()
    const [vocabulary, heads, size] = [4096, 4, 32]
    const ints = (values: number[]) =>
      new Tensor('int64', BigInt64Array.from(values, BigInt), [1, values.length])
    const past = this.#session.inputNames.filter((name) => name.startsWith('past_key_values'))
    const run = async (ids: number[], seen: number, cache: Feeds, set: HarnessSet) => {
      const own: Feeds = {
        input_ids: ints(ids),
        attention_mask: ints(new Array<number>(seen + ids.length).fill(1)),
        position_ids: ints(ids.map((_, i) => seen + i)),
        ...cache,
      }
      const wanted = Object.entries(own).filter(([name]) => this.#session.inputNames.includes(name))
      return this.#session.run({ ...Object.fromEntries(wanted), ...(await this.#feeds(set)) })
    }
    const empty = past.map((name) => [name, new Tensor('float32', new Float32Array(), [1, heads, 0, size])])
    const last = tokens.length - 1
    const first = await run(tokens.slice(0, last), 0, Object.fromEntries(empty), before)
    const cache = past.map((name) => [name, first[name.replace('past_key_values', 'present')]])
    const { logits } = await run(tokens.slice(last), last, Object.fromEntries(cache), now)
    return (logits.data as Float32Array).slice(-vocabulary)
  }

  async #feeds(set: HarnessSet): Promise<Feeds> {
    const sum = new Map<string, Float32Array<ArrayBuffer>>()
    for (const [id, weight] of set) {
      const source = await openFile(pathOf(id))
      for (const [name, values] of await this.#weights.patched(source, weight)) {
        const before = this.#weights.tensors.get(name)!
        const others = sum.get(name) ?? before
        sum.set(
          name,
          values.map((value, i) => value + (others[i] - before[i])),
        )
      }
      await source.close()
    }
    return this.#session.weights(this.#weights.feeds(this.#file, sum))
  }

  close(): Promise<void> {
    return this.#session.release()
  }
}

/** A page of the harness with the base's ONNX folder. */
async function openHarness(page: Page) {
  await page.route('**/plain/**', async (route) => {
    const [, file] = /\/plain\/base\/(.+)$/.exec(route.request().url()) ?? []
    const path = join(PLAIN, file ?? '')
    return existsSync(path) ? route.fulfill({ path }) : route.fulfill({ status: 404 })
  })
  await page.goto(HARNESS)
  await page.waitForFunction(() => 'harness' in window)
}

async function loadBundled(page: Page, ids: readonly string[]) {
  for (const id of ids) {
    await page.evaluate(([url, name]) => window.harness.load(url, name), [`/experts/${urlOf(id)}`, id])
  }
}

function largest(a: readonly number[], b: Float32Array): number {
  expect(a.length).toBe(b.length)
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0)
}

test('side: up to four experts are the sum of their changes, in 2 bits a weight, and leave nothing behind', async ({
  page,
}) => {
  // Every token costs a software adapter seconds.
  const prompt = LONG ? PROMPT : 'The king'
  const reference = await CpuModel.open('q4')
  await openHarness(page)
  await page.evaluate(() => window.harness.open({ model: '/plain/base/', dtype: 'q4', quantized: 'keep' }))
  await loadBundled(page, ['css', 'bard', 'austen', 'holmes'])
  const tokens = await page.evaluate((text) => window.harness.tokenize(text), prompt)
  const checksum = await page.evaluate(() => window.harness.checksum())
  const few: HarnessSet[] = [
    [],
    [['css', 1]],
    [
      ['css', 0.5],
      ['bard', 1],
    ],
  ]
  const sets: HarnessSet[] = [
    ...(LONG ? few : []),
    [
      ['css', 0.25],
      ['bard', 0.5],
      ['austen', 1],
      ['holmes', -0.5],
    ],
  ]
  for (const set of sets) {
    const logits = await page.evaluate(([text, experts]) => window.harness.logits(text, experts), [
      prompt,
      set,
    ] as const)
    const wanted = await reference.logits(tokens, set)
    expect(largest(logits, wanted), JSON.stringify(set)).toBeLessThan(TOLERANCE)
  }
  await page.evaluate(() => window.harness.activate([['css', 1]]))
  const { active } = await page.evaluate(() => window.harness.stats())
  const source = await openFile(pathOf('css'))
  const { tensors } = (await readHead(source)).table
  await source.close()
  const matrices = tensors.filter(({ shape }) => shape.length === 2)
  expect(active).toMatchObject([
    { expert: 'css', tensors: { side: matrices.length, merge: tensors.length - matrices.length, input: 0 } },
  ])
  const weights = matrices.reduce((sum, { shape }) => sum + weightsOf(shape), 0)
  expect(active[0].sideBytes).toBeGreaterThanOrEqual(weights / 4)
  expect(active[0].sideBytes).toBeLessThanOrEqual((1.05 * weights) / 4)
  await page.evaluate(() => window.harness.activate([]))
  expect(await page.evaluate(() => window.harness.checksum())).toBe(checksum)
  await reference.close()
})

test('calls with experts of their own write what they write alone, whatever is switched around them', async ({
  page,
}) => {
  test.skip(!LONG, ONLY_LONG)
  test.setTimeout(600_000 + SWITCHES * 20_000)
  await openHarness(page)
  await page.evaluate(() => window.harness.open())
  await loadBundled(page, ['css', 'bard'])
  await page.evaluate((bytes) => window.harness.load({ bytes }, 'lora'), await loraExpert())
  const checksum = await page.evaluate(() => window.harness.checksum())
  const calls: { prompt: string; newTokens: number; set: HarnessSet }[] = [
    { prompt: PROMPT, newTokens: 6, set: [['css', 1, 'side']] },
    { prompt: 'The king said to', newTokens: 6, set: [['bard', 1, 'merge']] },
  ]
  const alone: number[][] = []
  for (const { prompt, newTokens, set } of calls) {
    alone.push(
      await page.evaluate(([text, count, experts]) => window.harness.tokens(text, count, experts), [
        prompt,
        newTokens,
        set,
      ] as const),
    )
  }
  expect(alone[0]).not.toEqual(alone[1])
  const bindings = { css: ['merge', 'side'], bard: ['merge', 'side'], lora: ['merge', 'input'] } as const
  const random = generator(11)
  const switches = Array.from({ length: SWITCHES }, () =>
    Object.entries(bindings).flatMap(
      ([id, of]): HarnessSet => (random(2) === 0 ? [] : [[id, (random(4) + 1) / 4, of[random(2)]]]),
    ),
  )
  const together = await page.evaluate(([own, sets]) => window.harness.together(own, sets), [
    calls,
    switches,
  ] as const)
  expect(together).toEqual(alone)
  const { counts } = await page.evaluate(() => window.harness.stats())
  expect(counts.switches).toBeGreaterThanOrEqual(SWITCHES / 2)
  await page.evaluate(() => window.harness.activate([]))
  expect(await page.evaluate(() => window.harness.checksum())).toBe(checksum)
})

test('kv: a new expert reads the whole context again, or goes on with what the old one wrote', async ({
  page,
}) => {
  test.skip(!LONG, ONLY_LONG)
  const reference = await CpuModel.open('fp32')
  const ids = ['css', 'bard'] as const
  const urls = ids.map((id) => `/experts/${urlOf(id)}`) as [string, string]
  for (const kv of ['recompute', 'keep'] as const) {
    await openHarness(page)
    const result = await page.evaluate(
      ([prompt, choice, experts]) => window.harness.changed('/plain/base/', prompt, 26, 20, choice, experts),
      [PROMPT, kv, urls] as const,
    )
    expect(result.read).toBe(kv === 'keep' ? 1 : result.ids.length)
    const wanted =
      kv === 'keep'
        ? await reference.logitsAfter(result.ids, [['css', 1]], [['bard', 1]])
        : await reference.logits(result.ids, [['bard', 1]])
    expect(largest(result.logits as number[], wanted), kv).toBeLessThan(1e-3)
  }
  await reference.close()
})

test('evaluation: a window of a row of `npm run eval` by side, on WebGPU', async ({ page }) => {
  test.skip(!LONG, ONLY_LONG)
  test.setTimeout(1_200_000)
  const base = join(out, 'kept')
  await prepareModel(PLAIN, base, { dtype: 'q4', quantized: 'keep' })
  const bpb = evalFigures(['--base', base, '--experts', 'css', '--windows', '1'], join(out, 'eval.json'))

  await openHarness(page)
  await page.evaluate(() => window.harness.open({ model: '/plain/base/', dtype: 'q4', quantized: 'keep' }))
  await loadBundled(page, ['css'])
  const text = readFileSync(join(ROOT, 'public/texts/css.txt'), 'utf8')
  const bitsPerByte = (set: HarnessSet) =>
    page.evaluate(
      async ([whole, own]) => {
        const tokens = await window.harness.tokenize(whole)
        const { bits, bytes } = await window.harness.score(tokens.slice(0, 256), own)
        return bits / bytes
      },
      [text, set] as const,
    )
  expect(await bitsPerByte([])).toBeCloseTo(bpb.base, 3)
  expect(await bitsPerByte([['css', 1, 'side']])).toBeCloseTo(bpb.compressed, 3)
})

/** A LoRA of the base as a `.trit` file. */
async function loraExpert(): Promise<number[]> {
  const base = await openCheckpoint(await openFile(join(PLAIN, 'model.safetensors')))
  const task = await adapterTaskVector(openFolder(join(PLAIN, '../lora/bard')), base)
  const spool = memorySpool()
  const { head } = await compressTaskVector(task, { density: 0.2 }, { spool })
  return [...new Uint8Array(spool.join(head))]
}

/** The same choices in every run. */
function generator(seed: number) {
  let state = seed
  return (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}
