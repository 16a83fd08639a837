/**
 * The page as a visitor meets it, on the real base and the real experts. One page serves most checks: loading the
 * base on a software adapter is what takes the time.
 *
 * @module
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { type BrowserContext, chromium, expect, type Page, test } from '@playwright/test'
import { chromiumLaunchOptions } from '../scripts/chromium.mjs'
import type { Recording } from '../src/demo/recording.ts'
import { readHead } from '../src/format/index.ts'
import type { GeneratedToken } from '../src/loader/index.ts'
import { memorySource } from '../src/source/memory.ts'
import { parseRegistry, type RegistryEntry } from '../src/source/registry.ts'
import { foreignExpert } from './support/foreign_expert.ts'
import { card, expectAccessible, pen, showSection } from './support/page.ts'

const ROOT = new URL('..', import.meta.url).pathname
const REGISTRY = join(ROOT, 'public/experts/experts.json')
const experts = parseRegistry(readFileSync(REGISTRY, 'utf8')).experts.filter(
  ({ variantOf }) => variantOf === undefined,
)
/** What the recorded run begins with. */
const { begin } = JSON.parse(readFileSync(join(ROOT, 'public/recorded/writers.json'), 'utf8')) as Recording
const [first, second] = experts as [RegistryEntry, RegistryEntry]

/**
 * Broken relatives of an expert that no test loads whole: its chunks must not be in the cache. What the page must say
 * of each, and what the server sends.
 */
const victim = experts[2]!
const whole = readFileSync(join(ROOT, 'public/experts', victim.url)) as Buffer<ArrayBuffer>
const flipped = Buffer.from(whole)
flipped[flipped.length - 5000]! ^= 4
const BROKEN: { id: string; says: RegExp; body?: Buffer }[] = [
  {
    id: 'foreign',
    says: /load the base it was made for/,
    body: Buffer.from(await foreignExpert(new Uint8Array(whole))),
  },
  {
    id: 'truncated',
    says: /truncat|shorter|length|ends|bytes/,
    body: whole.subarray(0, whole.length - 5000),
  },
  { id: 'flipped', says: /SHA-256|hash/, body: flipped },
  { id: 'missing', says: /404/ },
]

const run = (page: Page) => page.getByRole('region', { name: 'A recorded run' })

const rootHashOf = async (file: Uint8Array) =>
  (await readHead(memorySource(new Uint8Array(file), 'expert'))).rootHash

/** What the page shows of each token beside what the engine reported for it. */
const inks = (page: Page) =>
  page.evaluate(() => {
    const switcher = document.querySelector('expert-switcher')!
    const manuscript = switcher.shadowRoot!.querySelector('trit-manuscript')!
    return window.reported.map(({ experts }, index) => ({
      shown: manuscript.renderRoot.querySelector(`[data-token="${index}"]`)?.closest<HTMLElement>('.run')
        ?.dataset.ink,
      reported: String(switcher.state.pens.find(({ id }) => id === (experts[0]?.expert ?? ''))?.ink),
    }))
  })

async function write(page: Page, prompt: string, tokens: number): Promise<string> {
  await page.getByRole('textbox', { name: 'Prompt' }).fill(prompt)
  await page.evaluate((limit) => {
    document.querySelector('expert-switcher')!.maxNewTokens = limit
    window.reported = []
  }, tokens)
  await page.getByRole('button', { name: 'Write' }).click()
  // The button is still there for a moment: what says that writing began, and so can end, is a token.
  await page.waitForFunction(() => window.reported.length > 0)
  await expect(page.getByRole('button', { name: 'Write' })).toBeVisible()
  return page.evaluate(() => window.reported.map(({ text }) => text).join(''))
}

declare global {
  interface Window {
    /** The tokens since the last {@link write}. */
    reported: GeneratedToken[]
  }
}

test.describe
  .serial('the page', () => {
    let context: BrowserContext
    let page: Page
    let letModelThrough: () => void
    const requested: string[] = []

    test.beforeAll(async ({ browser, baseURL }) => {
      context = await browser.newContext({ viewport: { width: 1280, height: 800 }, baseURL })
      context.on('request', (request) => requested.push(request.url()))
      const held = new Promise<void>((resolve) => {
        letModelThrough = resolve
      })
      await context.route('**/models/**', async (route) => {
        await held
        await route.continue()
      })
      await context.route('**/experts/broken.json', async (route) => {
        const registry = JSON.parse(readFileSync(REGISTRY, 'utf8'))
        for (const { id, body } of BROKEN) {
          const rootHash = id === 'foreign' ? await rootHashOf(body!) : victim.rootHash
          registry.experts.push({
            ...victim,
            id,
            label: id,
            url: `broken-${id}.trit`,
            rootHash,
            variantOf: undefined,
          })
        }
        await route.fulfill({ json: registry })
      })
      for (const { id, body } of BROKEN) {
        await context.route(`**/experts/broken-${id}.trit`, (route) =>
          route.fulfill(body === undefined ? { status: 404 } : { body }),
        )
      }
      page = await context.newPage()
    })

    test.afterAll(() => context.close())

    test('is drawn before the first byte of the model, which its first touch asks for', async () => {
      await page.goto('./')
      await expect(run(page)).toBeVisible()
      await expect(pen(page, first.label)).toBeVisible()
      await run(page).getByRole('button', { name: 'Try Bard here' }).click()
      await expect(page.getByRole('heading', { name: 'The base is on its way' })).toBeVisible()
      await expect(page.getByRole('button', { name: 'Write' })).toBeDisabled()
      const transferred = await page.evaluate(
        () => performance.getEntriesByName('first-contentful-paint').length,
      )
      expect(transferred).toBe(1)
      letModelThrough()
    })

    test('its first scripts are at most 80 kB', () => {
      const html = readFileSync(join(ROOT, 'dist/index.html'), 'utf8')
      const scripts = [...html.matchAll(/(?:src|href)="\.\/([^"]+\.js)"/g)].map((match) => match[1]!)
      expect(scripts.length).toBeGreaterThan(0)
      const bytes = scripts.reduce(
        (sum, path) => sum + gzipSync(readFileSync(join(ROOT, 'dist', path))).length,
        0,
      )
      expect(bytes).toBeLessThanOrEqual(80_000)
    })

    test('loads the base, says which adapter it runs on, and writes what the touched pen began', async () => {
      await page.evaluate(() => {
        const switcher = document.querySelector('expert-switcher')!
        // Greedy, so that two runs can be compared.
        switcher.temperature = 0
        window.reported = []
        switcher.addEventListener('token', (event) => {
          window.reported.push((event as CustomEvent<GeneratedToken>).detail)
        })
      })
      await expect(page.locator('trit-manuscript .run .mark').first()).toHaveText('Bard', {
        timeout: 120_000,
      })
      await expect(run(page)).toHaveCount(0)
      await page.getByRole('button', { name: 'Stop', exact: true }).click()
      await expect(page.getByRole('button', { name: 'Undo' })).toHaveCount(0)
      await expect(page.getByRole('button', { name: 'Continue' })).toBeVisible()
      expect(await page.locator('trit-manuscript .text').innerText()).toContain(begin)
      await expect(card(page, 'Bard')).toContainText('in hand')
      await expect(page.locator('#adapter')).toHaveText(/swiftshader · software · \d+\.\d MB of VRAM/i)
    })

    test('the pen changes hands in mid-sentence, and every token has the ink of who wrote it', async () => {
      await pen(page, 'Base').check()
      await page.getByRole('textbox', { name: 'Prompt' }).fill('Once upon a time there was')
      await page.evaluate(() => {
        document.querySelector('expert-switcher')!.maxNewTokens = 100
        window.reported = []
      })
      await page.getByRole('button', { name: 'Write' }).click()
      await page.waitForFunction(() => window.reported.length >= 3)
      await page.screenshot({ path: 'test-results/before-switch.png' })
      await pen(page, first.label).check()
      await expect(card(page, first.label).getByText('in hand')).toBeVisible()
      await page.waitForFunction((id) => window.reported.at(-1)?.experts[0]?.expert === id, first.id)
      await page.getByRole('button', { name: 'Stop', exact: true }).click()
      await expect(page.getByRole('button', { name: 'Write' })).toBeVisible()
      const tokens = await inks(page)
      expect(new Set(tokens.map(({ reported }) => reported))).toEqual(new Set(['0', '1']))
      for (const { shown, reported } of tokens) expect(shown).toBe(reported)
      await page.screenshot({ path: 'test-results/after-switch.png' })
      const figures = page.getByRole('region', { name: 'Last switch' })
      await expect(figures).toContainText(new RegExp(`${first.label} put on in [\\d.]+ m?s`))
      await expect(figures).toContainText(
        /Loading a whole fine-tuned model instead: [\d.]+ m?s, as measured here/,
      )
      for (const phase of ['fetch', 'check', 'to the GPU', 'unpack and put on', 'next word']) {
        await expect(
          figures.locator('div', { has: page.getByText(phase, { exact: true }) }).last(),
        ).toHaveText(/\d m?s$/)
      }
    })

    test('a key takes the other pen while it is writing; Stop ends it', async () => {
      await page.getByRole('textbox', { name: 'Prompt' }).fill('The king said')
      await page.evaluate(() => {
        document.querySelector('expert-switcher')!.maxNewTokens = 100
        window.reported = []
      })
      await page.getByRole('button', { name: 'Write' }).click()
      await page.keyboard.press('3')
      await page.waitForFunction((id) => window.reported.at(-1)?.experts[0]?.expert === id, second.id)
      await page.getByRole('button', { name: 'Stop', exact: true }).click()
      await expect(page.getByRole('button', { name: 'Write' })).toBeVisible()
      for (const { shown, reported } of await inks(page)) expect(shown).toBe(reported)
    })

    test('a card says what it weighs, what it replaces, and under which licence', async () => {
      const shown = card(page, first.label)
      await expect(shown).toContainText(/\d+ kB instead of 8\.9 MB/)
      await expect(shown).toHaveAttribute('title', 'Licence: Apache-2.0')
      await expect(pen(page, first.label)).toHaveAccessibleDescription(
        /.+ (ready|in hand).* \d+ kB instead of 8\.9 MB/,
      )
    })

    test('strength and a second pen, by keyboard; the next token has them', async () => {
      await pen(page, first.label).check()
      await expect(card(page, first.label).getByText('in hand')).toBeVisible()
      await page.locator('trit-mix summary').press('Enter')
      await page.getByRole('slider', { name: 'How strong' }).press('ArrowLeft')
      await expect(card(page, first.label).getByText('in hand × 0.95')).toBeVisible()
      await page.getByRole('combobox', { name: 'Second pen' }).selectOption(second.label)
      await page.getByRole('slider', { name: 'Its share' }).press('Home')
      await page.getByRole('slider', { name: 'Its share' }).press('PageUp')
      const share = Number(await page.getByRole('slider', { name: 'Its share' }).inputValue()) / 100
      expect(share).toBeGreaterThan(0)
      const weight = (part: number) => Number((0.95 * part).toFixed(4))
      await expect(card(page, second.label).getByText(`in hand × ${weight(share)}`)).toBeVisible()
      await write(page, 'It was a', 2)
      const [token] = await page.evaluate(() => window.reported)
      expect(new Map(token!.experts.map(({ expert, weight }) => [expert, weight]))).toEqual(
        new Map([
          [first.id, weight(1 - share)],
          [second.id, weight(share)],
        ]),
      )
      await expect(page.locator('.run.blend [data-token]')).toHaveCount(2)
      await page.getByRole('slider', { name: 'How strong' }).press('ArrowRight')
    })

    test('all pens side by side, and bits per byte, by keyboard; both can be stopped; figures are saved', async () => {
      await showSection(page, 'Measure')
      await page.getByRole('button', { name: 'Try all pens' }).press('Enter')
      const column = page.getByRole('region', { name: 'Base', exact: true })
      await expect(column.locator('.written')).not.toBeEmpty()
      await page.getByRole('button', { name: 'Stop all' }).press('Enter')
      await expect(page.getByRole('button', { name: 'Try all pens' })).toBeEnabled()
      await page.getByRole('button', { name: 'Measure' }).press('Enter')
      const cell = page.getByRole('row', { name: 'Base' }).getByRole('cell').first()
      await expect(cell).toHaveText(/^\d\.\d{3}$/, { timeout: 60_000 })
      await page.getByRole('button', { name: 'Stop measuring' }).press('Enter')
      await expect(page.getByRole('button', { name: 'Measure' })).toBeEnabled()
      const [download] = await Promise.all([
        page.waitForEvent('download'),
        page.getByRole('button', { name: 'Save as JSON' }).press('Enter'),
      ])
      const { rows } = JSON.parse(readFileSync(await download.path(), 'utf8'))
      expect(Object.values(rows[0].bitsPerByte)[0]).toBeCloseTo(Number(await cell.innerText()), 2)
      await page.evaluate(() => window.scrollTo(0, 0))
    })

    test('what is wrong with an expert is said at its card, and the base writes the same tokens', async () => {
      await pen(page, 'Base').check()
      await expect(card(page, 'Base').getByText('in hand')).toBeVisible()
      await page.evaluate(() => {
        document.querySelector('expert-switcher')!.experts = './experts/broken.json'
      })
      await expect(pen(page, 'foreign')).toBeVisible()
      const before = await write(page, 'It was a', 3)
      for (const { id, says } of BROKEN) {
        await pen(page, id).click()
        await expect(card(page, id).getByRole('alert')).toHaveText(says)
        await expect(card(page, 'Base').getByText('in hand')).toBeVisible()
      }
      expect(await write(page, 'It was a', 3)).toBe(before)
      await expect(card(page, 'missing').getByRole('button', { name: 'Try again' })).toBeVisible()
      await page.screenshot({ path: 'test-results/broken-experts.png' })
    })

    test('axe finds nothing serious, in light and in dark', async () => {
      await expectAccessible(page)
    })

    test('asks nothing of anyone else', async ({ baseURL }) => {
      const elsewhere = requested.filter((url) => !url.startsWith(baseURL!) && !/^(blob|data):/.test(url))
      expect(elsewhere).toEqual([])
      // The record sees into the workers: otherwise the line above proves nothing.
      expect(requested.some((url) => url.endsWith('weights.trit'))).toBe(true)
      expect(requested.some((url) => url.endsWith('.wasm'))).toBe(true)
    })
  })

test.describe('without a GPU', () => {
  test('a browser that has WebGPU but no adapter, too', async ({ baseURL }) => {
    const { args, ...options } = chromiumLaunchOptions()
    const browser = await chromium.launch({
      ...options,
      args: [
        ...args.filter((arg) => !arg.includes('webgpu')),
        '--disable-gpu',
        '--disable-software-rasterizer',
      ],
    })
    const page = await browser.newPage({ baseURL })
    await page.goto('./')
    await expect(page.getByRole('region', { name: 'A recorded run' })).toBeVisible()
    await page.getByRole('button', { name: 'Load the base' }).click()
    await expect(page.getByRole('alert')).toContainText('WebGPU is missing')
    await browser.close()
  })
})
