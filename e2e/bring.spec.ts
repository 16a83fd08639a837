/**
 * What visitors bring: a fine-tuning and an adapter become experts in the page, and nothing of them leaves it.
 *
 * @module
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type BrowserContext, expect, type Page, test } from '@playwright/test'
import { readHead } from '../src/format/index.ts'
import { memorySource } from '../src/source/memory.ts'
import { type BroughtFiles, payloadOf, writeBrought } from './support/brought.ts'
import { card, expectAccessible, pen, ready, showSection } from './support/page.ts'
import { LONG } from './support/tier.ts'

const EXPERT = join(import.meta.dirname, '../public/experts/css.trit')
const { fingerprint } = JSON.parse(
  readFileSync(join(import.meta.dirname, '../public/models/demo/tritswap.json'), 'utf8'),
)

test.describe
  .serial('bring your own', () => {
    let context: BrowserContext
    let page: Page
    let brought: BroughtFiles
    const sent: string[] = []

    const files = () => page.getByLabel('Choose files')
    const folder = () => page.getByLabel('Choose a folder')
    const size = () => page.locator('trit-workbench .size b')
    const zone = () => page.locator('trit-bring-your-own')

    test.beforeAll(async ({ browser, baseURL }, { project }) => {
      brought = await writeBrought(join(project.outputDir, 'brought'))
      context = await browser.newContext({ viewport: { width: 1280, height: 800 }, baseURL })
      context.on('request', (request) => {
        // The page asks how large files are before it fetches them: a HEAD has no body either.
        if (!['GET', 'HEAD'].includes(request.method()) || request.postData() !== null)
          sent.push(request.url())
      })
      // One text of one window, the same as beside the adapter: onnxruntime-web compiles its kernels again for each length.
      if (!LONG)
        await context.route('**/texts/*.txt', (route) =>
          route.fulfill(/css\.txt$/.test(route.request().url()) ? { path: brought.text } : { body: '' }),
        )
      page = await context.newPage()
      await page.goto('./')
      await ready(page)
      await showSection(page, 'Bring your own')
    })

    test.afterAll(() => context.close())

    test('a fine-tuning is compressed as the command line would, taken in hand, and saved', async () => {
      await files().setInputFiles(brought.finetuned)
      await expect(size()).toHaveText(/^\d+ kB$/)
      await expect(card(page, 'my-style').getByText('in hand')).toBeVisible()
      const [download] = await Promise.all([
        page.waitForEvent('download'),
        page.getByRole('button', { name: 'Save as .trit' }).click(),
      ])
      expect(download.suggestedFilename()).toBe('my-style.trit')
      const file = new Uint8Array(readFileSync(await download.path()))
      const { table } = await readHead(memorySource(file, 'saved'))
      expect(table).toMatchObject({
        kind: 'expert',
        method: 'full',
        label: 'my-style',
        base: { fingerprint },
      })
      expect(table.base.sketch?.length).toBe(8 * table.tensors.length)
      // The embedding, whose rounding alone differs, is not in it.
      expect(table.tensors.map(({ name }) => name)).not.toContain('model.embed_tokens.weight')
      expect(Buffer.compare(await payloadOf(file), await brought.payload(0.1))).toBe(0)
    })

    test('it says how often the compression chooses as the uncompressed one does', async () => {
      const agreement = page.locator('trit-workbench .agreement')
      await expect(agreement).toHaveText(/^\d+ % of next tokens .*the base: \d+ %.* on \d+ tokens of/s, {
        timeout: 120_000,
      })
      const [own, ofBase] = (await agreement.innerText()).match(/\d+(?= %)/g)!.map(Number) as [number, number]
      expect(own).toBeGreaterThan(ofBase)
      await expectAccessible(page, ['dark'])
    })

    test('the density slider changes the size by keyboard, and what is in hand goes on in it', async () => {
      const before = await size().innerText()
      await page.getByRole('slider', { name: 'How much to keep' }).press('Home')
      await expect(page.locator('trit-workbench output').first()).toHaveText('1 %')
      await expect(size()).toHaveText(/^\d+ kB$/)
      await expect(size()).not.toHaveText(before)
      await expect(card(page, 'my-style').getByText('in hand')).toBeVisible()
      await expect(card(page, 'my-style').getByText(await size().innerText())).toBeVisible()
      await page.getByRole('slider', { name: 'How strong', exact: true }).press('ArrowRight')
      await expect(page.locator('trit-workbench output').last()).toHaveText('× 1.25')
      await expect(card(page, 'my-style').getByText('in hand')).toBeVisible()
      await page.getByRole('button', { name: 'Done' }).click()
      await expect(page.locator('trit-workbench')).toHaveCount(0)
      await expect(pen(page, 'my-style')).toBeAttached()
    })

    test('the folder of an adapter, measured on the text in it', async () => {
      await folder().setInputFiles(brought.lora)
      await expect(card(page, 'my-lora').getByText('in hand')).toBeVisible({ timeout: 120_000 })
      await expect(zone().getByText(/^A LoRA adapter: \d+ tensors/)).toBeVisible()
      // In the quick tier the fine-tuning above is measured, and dropped_files.test.ts finds the text.
      if (LONG)
        await expect(page.locator('trit-workbench .agreement')).toContainText('tokens of sample.txt', {
          timeout: 120_000,
        })
      await page.getByRole('button', { name: 'Done' }).click()
    })

    test('what cannot become an expert is said where it was brought, and the pen in hand stays', async () => {
      await pen(page, 'Base').check()
      const pens = await page.locator('.pen').count()
      const cases: [string[] | string, RegExp][] = [
        [brought.routed, /X-LoRA.*a router weighs its adapters/],
        [[join(brought.lora, 'adapter_model.safetensors')], /adapter_config\.json beside it/],
        [[brought.stranger], /differ from those of .* by \d+ %, so it was not fine-tuned from this base/],
        [[brought.text], /Cannot use sample\.txt: expected a \.trit file/],
      ]
      for (const [what, says] of cases) {
        await (typeof what === 'string' ? folder() : files()).setInputFiles(what)
        await expect(zone().getByRole('alert')).toHaveText(says)
      }
      await files().setInputFiles({ name: 'pytorch_model.bin', mimeType: '', buffer: Buffer.from('PK') })
      await expect(zone().getByRole('alert')).toHaveText(/PyTorch pickle/)
      expect(await page.locator('.pen').count()).toBe(pens)
      await expect(card(page, 'Base').getByText('in hand')).toBeVisible()
      await expectAccessible(page, ['light'])
    })

    test('a dropped expert is taken in hand, also where the drop misses the zone', async () => {
      const transfer = await page.evaluateHandle((bytes) => {
        const data = new DataTransfer()
        data.items.add(new File([Uint8Array.from(atob(bytes), (char) => char.charCodeAt(0))], 'dropped.trit'))
        return data
      }, readFileSync(EXPERT).toString('base64'))
      for (const target of ['trit-bring-your-own .zone', 'footer']) {
        await page.locator(target).dispatchEvent('drop', { dataTransfer: transfer })
        await expect(zone().getByRole('status')).toHaveText(/191 kB, is in hand$/)
      }
    })

    test('nothing was sent anywhere', () => {
      expect(sent).toEqual([])
    })
  })
