/** Graphs with 4-bit weights: in buffers of ours as they are, and dequantized there. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from '@playwright/test'
import type { ViteDevServer } from 'vite'
import { runCli } from './support/cli.ts'
import { jobOf, openCompat, serveCompat, ZOO } from './support/compat_page.ts'
import { LONG } from './support/tier.ts'

const QUANTIZED = [
  { model: 'llama-tiny', graph: 'onnx', architecture: 'LlamaForCausalLM' },
  // A tied head, looked up in by GatherBlockQuantized through a Reshape; fused qkv; a file beside the graph.
  { model: 'qwen2-tiny', graph: 'onnx-genai', architecture: 'Qwen2ForCausalLM', externalData: true },
]

test.skip(!existsSync(ZOO), `there are no models at ${ZOO}`)

let server: ViteDevServer
let out: string
test.beforeAll(async () => {
  out = mkdtempSync(join(tmpdir(), 'tritswap-quantized-'))
  server = await serveCompat()
})
test.afterAll(async () => {
  await server?.close()
  rmSync(out, { recursive: true, force: true })
})

// `npm run compat` tries more.
for (const { model, graph, architecture, externalData = false } of QUANTIZED.slice(LONG ? 0 : 1)) {
  test(`4-bit weights of ${model}/${graph} in our buffers, as they are and dequantized`, async ({ page }) => {
    await openCompat(page, server)
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
