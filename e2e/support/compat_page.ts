/** The page of `npm run compat` for specs that need one of its ways to a model. */
import { join } from 'node:path'
import type { Page } from '@playwright/test'
import { createServer, type ViteDevServer } from 'vite'
import type {} from '../compat/page.ts'
import type { Job } from '../compat/protocol.ts'

const ROOT = join(import.meta.dirname, '../..')
export const ZOO = join(ROOT, '../shared/onnx-zoo')

export async function serveCompat(): Promise<ViteDevServer> {
  const server = await createServer({
    configFile: join(ROOT, 'e2e/compat/vite.config.ts'),
    server: { port: 4392, strictPort: false },
  })
  return server.listen()
}

export async function openCompat(page: Page, server: ViteDevServer): Promise<void> {
  await page.goto(`${server.resolvedUrls?.local[0]}e2e/compat/`)
  await page.waitForFunction(() => 'compat' in window)
}

/** What the page is asked of an f32 model of the zoo. */
export function jobOf(model: string, graph: string, architecture: string): Job {
  return {
    folder: `/@fs${join(ZOO, model)}`,
    expected: `/@fs${join(ZOO, model, 'expected.safetensors')}`,
    graph,
    dtype: 'fp32',
    architecture,
    externalData: false,
    prepared: '',
    outputs: ['base', 'finetuned', 'lora', 'lora_conv'],
    experts: [],
  }
}
