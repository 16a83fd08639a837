/**
 * A slice of `npm run compat`, and the other ways to an unprepared model: a bare session, a loader, and 4-bit weights.
 *
 * @module
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, type Page, test } from '@playwright/test'
import type { ViteDevServer } from 'vite'
import { COMPILED_ONCE } from '../scripts/chromium.mjs'
import { runCompat } from './compat/run.ts'
import { runCli } from './support/cli.ts'
import { jobOf, openCompat, serveCompat, ZOO } from './support/compat_page.ts'
import { LONG } from './support/tier.ts'

/**
 * Of these the quick tier has fused qkv and 4-bit weights below, experts by side in bindings.spec.ts, and what is refused in
 * tests/compress/adapter.test.ts.
 */
const LONG_SLICE = [
  'llama-tiny/onnx/fp16/refuse_pickle',
  't5-tiny/onnx/fp32/finetuned',
  'bert-tiny-classify/onnx/q4/lora_all',
  'qwen2-tiny/onnx-genai/fp32/lora_bias',
]
const SLICE = [
  // An encoder and a merged decoder.
  't5-tiny/onnx/fp32/lora',
  ...(LONG ? LONG_SLICE : []),
]

/** Graphs with 4-bit weights: in buffers of ours as they are, and dequantized there. */
const QUANTIZED = [
  { model: 'llama-tiny', graph: 'onnx', architecture: 'LlamaForCausalLM' },
  // A tied head, looked up in by GatherBlockQuantized through a Reshape; fused qkv; a file beside the graph.
  { model: 'qwen2-tiny', graph: 'onnx-genai', architecture: 'Qwen2ForCausalLM', externalData: true },
]

test.skip(!existsSync(ZOO), `there are no models at ${ZOO}`)

let server: ViteDevServer
let out: string
test.beforeAll(async () => {
  out = mkdtempSync(join(tmpdir(), 'tritswap-e2e-'))
  server = await serveCompat()
})
test.afterAll(async () => {
  await server?.close()
  rmSync(out, { recursive: true, force: true })
})

test('prepared on the command line and in the browser, models equal torch’s', async () => {
  const flags = LONG ? [] : [COMPILED_ONCE]
  const rows = await runCompat({ zoo: ZOO, server, flags, wanted: (path) => SLICE.includes(path) })
  const verdicts = rows.map(({ model, adapter, verdict, message }) => ({ model, adapter, verdict, message }))
  expect(verdicts.filter(({ verdict }) => verdict === 'wrong')).toEqual([])
  expect(
    rows
      .filter(({ adapter }) => adapter !== 'base')
      .map(({ model, adapter, binding, verdict }) => [model, adapter, binding, verdict].join(' ')),
  ).toEqual([
    ...(LONG ? ['bert-tiny-classify lora_all merge ok', 'bert-tiny-classify lora_all input ok'] : []),
    ...(LONG
      ? [
          'llama-tiny refuse_pickle merge refused',
          'qwen2-tiny lora_bias merge ok',
          'qwen2-tiny lora_bias input ok',
        ]
      : []),
    't5-tiny lora merge ok',
    't5-tiny lora input ok',
    ...(LONG ? ['t5-tiny finetuned merge ok', 't5-tiny finetuned side ok'] : []),
  ])
})

test.describe
  .serial('in one page', () => {
    let page: Page
    test.beforeAll(async ({ browser }) => {
      page = await browser.newPage()
      await openCompat(page, server)
    })
    test.afterAll(() => page.close())

    test('a bare session with experts is the session that it was', async () => {
      const expert = compress('vit-tiny', '--finetuned', 'finetuned')
      const { outputs, inputNames, twice, workers } = await page.evaluate(
        ([job, url]) => window.compat.bare(job, url),
        [jobOf('vit-tiny', 'onnx', 'ViTForImageClassification'), expert] as const,
      )
      expect(inputNames).toEqual(['pixel_values'])
      expect(largest(outputs.attached, outputs.plain)).toBeLessThan(1e-5)
      expect(largest(outputs.active, outputs.plain)).toBeGreaterThan(1e-3)
      expect(outputs.reverted).toEqual(outputs.attached)
      expect(twice).toMatch(/Cannot attach experts twice/)
      // The expert came through a worker that the caller made.
      expect(workers).toBeGreaterThan(0)
    })

    test('a loader takes a folder that nobody prepared', async () => {
      const expert = compress('llama-tiny', '--adapter', 'adapters/lora')
      const job = { ...jobOf('llama-tiny', 'onnx-genai', 'LlamaForCausalLM'), externalData: true }
      const { plain, base, active, tokens, info } = await page.evaluate(
        ([wanted, url]) => window.compat.text(wanted, 'It was a dark night', url),
        [job, expert] as const,
      )
      expect(info).toMatchObject({ name: 'llama-tiny', dtype: 'f32' })
      expect(largest(base, plain)).toBeLessThan(1e-4)
      expect(largest(active, plain)).toBeGreaterThan(1e-3)
      expect(tokens).toHaveLength(3)
    })

    test('what cannot be opened says what was looked for', async () => {
      const refusal = await page.evaluate(
        (model) => window.compat.refusal({ model, dtype: 'bnb4' }),
        `/@fs${ZOO}/llama-tiny`,
      )
      expect(refusal?.tag).toBe('input')
      const other = await page.evaluate((model) => window.compat.refusal({ model }), `/@fs${ZOO}/t5-tiny`)
      expect(other?.tag).toBe('unsupported')
      expect(other?.message).toMatch(/a t5 model is no causal language model; .*attachExperts/)
      expect(refusal?.message).toMatch(/no tritswap\.json, and no onnx\/model_bnb4\.onnx/)
    })

    // `npm run compat` tries more.
    for (const { model, graph, architecture, externalData = false } of QUANTIZED.slice(LONG ? 0 : 1)) {
      test(`4-bit weights of ${model}/${graph} in our buffers, as they are and dequantized`, async () => {
        const prepared = join(out, `${model}-q4`)
        const flags = ['--out', prepared, '--dtype', 'q4', '--subfolder', graph, '--checkpoint', 'none']
        runCli('prepare', join(ZOO, model), ...flags)
        const job = {
          ...jobOf(model, graph, architecture),
          dtype: 'q4',
          externalData,
          prepared: `/@fs${prepared}`,
        }
        const found = await page.evaluate((wanted) => window.compat.quantized(wanted), job)
        expect(found.kept.off).toBe(0)
        expect(found.float.off).toBeLessThan(2e-2)
        expect(found.kept.bytes).toBeLessThan(found.float.bytes)
        expect([found.float.hash, found.prepared.hash]).toEqual([found.onCpu, found.onCpu])
        expect(found.refusal).toMatch(/prepared with --quantized float/)
      })
    }
  })

/** An expert of a zoo model, and its URL. */
function compress(model: string, kind: string, from: string): string {
  const file = join(out, `${model}.trit`)
  const base = join(ZOO, model)
  runCli('compress', '--base', base, kind, join(base, from), '--density', '0.2', '--out', file)
  return `/@fs${file}`
}

function largest(a: readonly number[], b: readonly number[]): number {
  expect(a.length).toBe(b.length)
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0)
}
