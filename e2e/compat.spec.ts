/**
 * A slice of `npm run compat`, and the other ways to an unprepared model: a bare session, and a loader.
 *
 * @module
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from '@playwright/test'
import type { ViteDevServer } from 'vite'
import { COMPILED_ONCE } from '../scripts/chromium.mjs'
import { runCompat } from './compat/run.ts'
import { runCli } from './support/cli.ts'
import { jobOf, openCompat, serveCompat, ZOO } from './support/compat_page.ts'
import { LONG } from './support/tier.ts'

/** Of these the quick tier has fused qkv and 4-bit weights in quantized.spec.ts, and experts by side in bindings.spec.ts. */
const LONG_SLICE = [
  't5-tiny/onnx/fp32/finetuned',
  'bert-tiny-classify/onnx/q4/lora_all',
  'qwen2-tiny/onnx-genai/fp32/lora_bias',
]
const SLICE = [
  // An encoder and a merged decoder; an adapter that is refused.
  't5-tiny/onnx/fp32/lora',
  'llama-tiny/onnx/fp16/refuse_pickle',
  ...(LONG ? LONG_SLICE : []),
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
    'llama-tiny refuse_pickle merge refused',
    ...(LONG ? ['qwen2-tiny lora_bias merge ok', 'qwen2-tiny lora_bias input ok'] : []),
    't5-tiny lora merge ok',
    't5-tiny lora input ok',
    ...(LONG ? ['t5-tiny finetuned merge ok', 't5-tiny finetuned side ok'] : []),
  ])
})

test('a bare session with experts is the session that it was', async ({ page }) => {
  await openCompat(page, server)
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

test('a loader takes a folder that nobody prepared', async ({ page }) => {
  await openCompat(page, server)
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

test('what cannot be opened says what was looked for', async ({ page }) => {
  await openCompat(page, server)
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
