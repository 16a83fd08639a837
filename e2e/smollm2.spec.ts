/**
 * The bundled instruct model on the GPU: weights of 4 and 8 bits dequantized there, against what torch answers. A software
 * adapter takes half a minute for a token, so each answer is one.
 *
 * @module
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, type Page, test } from '@playwright/test'
import type {} from './harness/harness.ts'
import { LONG, ONLY_LONG } from './support/tier.ts'

const ROOT = new URL('..', import.meta.url).pathname
const HARNESS = `http://localhost:${process.env.HARNESS_PORT ?? 4320}/e2e/harness/`
const { base, experts } = JSON.parse(readFileSync(join(ROOT, 'tests/fixtures/smollm2.json'), 'utf8')) as {
  base: { request: string; tokens: number[] }[]
  experts: Record<string, { request: string; tokens: number[] }>
}

test.describe
  .serial('SmolLM2-135M-Instruct', () => {
    test.skip(!LONG, ONLY_LONG)
    test.setTimeout(600_000)
    let page: Page
    let checksum: string

    const firstToken = (content: string) =>
      page.evaluate((text) => window.harness.tokens([{ role: 'user', content: text }], 1), content)

    test.beforeAll(async ({ browser }) => {
      test.setTimeout(300_000)
      page = await browser.newPage()
      await page.goto(HARNESS)
      await page.waitForFunction(() => 'harness' in window)
      const info = await page.evaluate(() => window.harness.open({ model: '/models/smollm2' }))
      expect(info).toMatchObject({ weights: 134_515_008, chat: true })
      checksum = await page.evaluate(() => window.harness.checksum())
    })

    test.afterAll(() => page?.close())

    test('a chat begins as in torch', async () => {
      const [{ request, tokens }] = base
      expect(await firstToken(request)).toEqual(tokens.slice(0, 1))
    })

    for (const [id, { request, tokens }] of Object.entries(experts)) {
      test(`with ${id}, it answers as torch with its decoded weights, and the base comes back`, async () => {
        await page.evaluate(([url, name]) => window.harness.load(url, name), [
          `/experts/smollm2/${id}.trit`,
          id,
        ] as const)
        await page.evaluate((name) => window.harness.activate([[name, 1]]), id)
        expect(await page.evaluate(() => window.harness.checksum())).not.toBe(checksum)
        expect(await firstToken(request)).toEqual(tokens.slice(0, 1))
        await page.evaluate(() => window.harness.activate([]))
        expect(await page.evaluate(() => window.harness.checksum())).toBe(checksum)
      })
    }
  })
