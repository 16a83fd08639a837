/**
 * Every state of the page: what it says, that one can go on from it, and that axe finds nothing in it. With
 * `SCREENSHOTS=1` the pictures in docs/images/states are taken anew.
 *
 * @module
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type BrowserContext, expect, type Page, test } from '@playwright/test'
import type { GeneratedToken } from '../src/loader/index.ts'
import { startStaticServer } from './servers/static_server.ts'
import { card, expectAccessible, pen, ready, showSection } from './support/page.ts'
import { DESKTOP, look } from './support/states.ts'
import { LONG } from './support/tier.ts'

const ROOT = join(import.meta.dirname, '..')
const DIST = { '': join(ROOT, 'dist') }

declare global {
  interface Window {
    loseDevice(): Promise<void>
  }
}

const state = (page: Page) => page.locator('expert-switcher .state')

test('no WebGPU: what to do, in the visitor’s own browser first', async ({ browser, baseURL }) => {
  const browsers = {
    Firefox: 'Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0',
    Safari:
      'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.4 Safari/605.1.15',
    'Chrome and Edge': undefined,
  }
  for (const [name, userAgent] of Object.entries(browsers)) {
    const context = await browser.newContext({ baseURL, userAgent, viewport: DESKTOP })
    const page = await context.newPage()
    await page.addInitScript(() => Reflect.deleteProperty(Navigator.prototype, 'gpu'))
    await page.goto('./')
    await expect(page.getByRole('alert')).toContainText('WebGPU is missing')
    await expect(page.getByRole('alert')).toContainText('This browser has no WebGPU')
    await expect(page.getByRole('alert')).toContainText(`This browser, ${name}:`)
    await expect(page.getByRole('button', { name: 'Try again' })).toBeInViewport({ ratio: 1 })
    if (userAgent === undefined) await look(page, 'no-webgpu')
    await context.close()
  }
})

test('on a plain host, in a folder: loading, stopped half way, and gone on with; the expert of the link writes', async ({
  page,
}) => {
  const stall = { 'models/demo/weights.trit': 5_000_000 }
  const server = await startStaticServer(DIST, '/x/y/', { stall })
  try {
    const complaints: string[] = []
    page.on('console', (message) => {
      if (message.type() === 'error') complaints.push(message.text())
    })
    const outside: string[] = []
    page.on('request', (request) => {
      const url = request.url()
      if (!url.startsWith(server.url) && !/^(blob|data):/.test(url)) outside.push(url)
    })
    await page.goto(`${server.url}#prompt=The%20king&pens=css:0.5`)
    await page.getByRole('button', { name: 'Load the base' }).click()
    await expect(state(page)).toContainText(/[45]\.\d MB of 11\.0 MB/)
    await look(page, 'loading')
    // All that is fetched is said, and there is one way to end it.
    await expect(state(page)).toContainText(
      /with the model come [\d.]+ MB of WebAssembly and [\d.]+ MB of scripts/,
    )
    await expect(page.getByRole('button', { name: 'Stop' })).toHaveCount(1)
    await expect(page.getByRole('button', { name: 'Stop' })).toBeInViewport({ ratio: 1 })
    await page.getByRole('button', { name: 'Stop' }).click()
    await expect(page.getByRole('heading', { name: 'The base is partly downloaded' })).toBeVisible()
    await expect(state(page)).toContainText(/[45]\.\d MB of 11\.0 MB downloaded/)
    await look(page, 'partial')
    server.release()
    await page.getByRole('button', { name: 'Resume loading' }).click()
    await ready(page)
    // The link's pen is fetched behind the base.
    await expect(page.getByText('in hand × 0.5')).toBeVisible()
    await page.evaluate(() => {
      document.querySelector('expert-switcher')!.maxNewTokens = 2
    })
    await page.getByRole('button', { name: 'Write' }).click()
    await expect(page.locator('.run[data-ink="6"] [data-token]')).toHaveCount(2)
    await showSection(page, 'How it works')
    await expectAccessible(page, ['light'])
    expect(complaints).toEqual([])
    expect(outside).toEqual([])
  } finally {
    await server.close()
  }
})

test('an error has one button, and it works', async ({ page }) => {
  let there = false
  await page.route('**/models/**', (route) => (there ? route.continue() : route.fulfill({ status: 404 })))
  await page.goto('./')
  await page.getByRole('button', { name: 'Load the base' }).click()
  await expect(page.getByRole('alert')).toContainText('The base could not be loaded')
  await expect(page.getByRole('alert')).toContainText('Cannot open')
  await look(page, 'error')
  there = true
  await page.getByRole('button', { name: 'Try again' }).click()
  await expect(page.getByRole('heading', { name: 'The base is on its way' })).toBeVisible()
})

test('a registry that lists nothing, and one that cannot be read', async ({ page }) => {
  await page.route('**/models/**', (route) => route.fulfill({ status: 404 }))
  let answer: { status: number; json?: object } = { status: 200, json: { version: 1, experts: [] } }
  await page.route('**/experts/experts.json', (route) => route.fulfill(answer))
  await page.goto('./')
  await expect(page.getByText('No pens are listed here yet.')).toBeVisible()
  await expect(page.getByRole('radio')).toHaveCount(1)
  await look(page, 'empty-registry')
  answer = { status: 404 }
  await page.reload()
  const problem = page.locator('trit-pen-choice').getByRole('alert')
  await expect(problem).toContainText('404')
  answer = { status: 200, json: JSON.parse(readFileSync(join(ROOT, 'public/experts/experts.json'), 'utf8')) }
  await problem.getByRole('button', { name: 'Try again' }).click()
  await expect(pen(page, 'Austen')).toBeVisible()
  await expect(problem).toHaveCount(0)
})

test.describe
  .serial('with the base in VRAM', () => {
    let context: BrowserContext
    let page: Page

    test.beforeAll(async ({ browser, baseURL }) => {
      context = await browser.newContext({ viewport: DESKTOP, baseURL })
      page = await context.newPage()
      await page.goto('./')
      await page.locator('#adapter').click()
      await expect(page.locator('#kept')).toContainText('Nothing is kept in this browser yet')
      await page.locator('#adapter').click()
      await ready(page)
      await page.evaluate(() => {
        const switcher = document.querySelector('expert-switcher')!
        switcher.temperature = 0
        switcher.maxNewTokens = 3
      })
    })

    test.afterAll(() => context.close())

    test('ready', async () => {
      await expect(page.getByText('Ready. Choose a pen')).toBeVisible()
      await look(page, 'ready')
    })

    test('written by three hands', async () => {
      await page.evaluate(async () => {
        const switcher = document.querySelector('expert-switcher')!
        switcher.prompt = 'Once upon a time there was a king, and he said'
        // Each takes the pen once a token of the one before is written.
        const hands = ['', 'bard', 'scripture', '']
        let turn = 0
        switcher.maxNewTokens = 24
        switcher.addEventListener('token', function next(event) {
          const { experts } = (event as CustomEvent<GeneratedToken>).detail
          if ((experts[0]?.expert ?? '') !== hands[turn]) return
          const id = hands[++turn]
          if (id !== undefined) return void switcher.activate(id === '' ? [] : [id])
          switcher.removeEventListener('token', next)
          switcher.stop()
        })
        await switcher.generate()
      })
      await expect(page.locator('.run .mark').last()).toHaveText('Base')
      expect(await page.locator('.run').count()).toBeGreaterThanOrEqual(4)
      await look(page, 'written')
    })

    test('the VRAM meter adds up, and what is kept is said', async () => {
      await page.locator('#adapter').click()
      const total = await page.locator('#adapter').innerText()
      await expect(page.locator('#vram meter')).toHaveCount(3)
      const shown = await page.evaluate(() => {
        const { vram } = document.querySelector('expert-switcher')!.state.stats!
        const meters = [...document.querySelectorAll<HTMLMeterElement>('#vram meter')]
        return { vram, values: meters.map(({ value }) => value) }
      })
      const { base, experts, journal, copies } = shown.vram
      expect(shown.values).toEqual([base, experts, journal + copies])
      expect(shown.values.reduce((sum, bytes) => sum + bytes)).toBe(shown.vram.total)
      expect(base).toBeGreaterThan(experts)
      expect(experts).toBeGreaterThan(0)
      expect(total).toContain(`${(shown.vram.total / 1e6).toFixed(1)} MB of VRAM`)
      await expect(page.locator('#kept')).toContainText(
        /Kept in this browser for your next visit: 11\.\d MB, 3 files/,
      )
      await page.locator('#adapter').click()
    })

    test('offline: what is kept here still writes, the rest says why not', async () => {
      await pen(page, 'Bard').check()
      await expect(card(page, 'Bard')).toContainText('in hand')
      await pen(page, 'Base').check()
      await expect(card(page, 'Bard')).toContainText('ready')
      await context.setOffline(true)
      await expect(page.locator('trit-pen-choice').getByRole('status')).toContainText('Offline.')
      await expect(card(page, 'Austen').locator('.place')).toHaveText('offline')
      await look(page, 'offline')
      await pen(page, 'Bard').check()
      await expect(card(page, 'Bard')).toContainText('in hand')
      await page.evaluate(() => {
        document.querySelector('expert-switcher')!.maxNewTokens = 3
      })
      await page.getByRole('button', { name: 'Write' }).click()
      await expect(page.getByRole('button', { name: 'Write' })).toBeVisible()
      await context.setOffline(false)
      await expect(card(page, 'Austen').locator('.place')).toHaveText('to fetch')
      await expect(page.getByText('Offline.')).toHaveCount(0)
    })

    test('what was fetched once is on this device at the next visit, and can be forgotten', async () => {
      await page.reload()
      await expect(card(page, 'Bard')).toContainText('on this device')
      await expect(card(page, 'Austen').locator('.place')).toHaveText('to fetch')
      await ready(page)
      await page.locator('#adapter').click()
      await page.getByRole('button', { name: 'Forget all of it' }).click()
      await expect(page.locator('#kept')).toContainText('Nothing is kept in this browser yet')
      await page.locator('#adapter').click()
    })

    test('a device that is lost while it writes comes back by itself, with the pen in hand', async ({
      browser,
    }) => {
      await pen(page, 'Bard').check()
      await expect(card(page, 'Bard').getByText('in hand')).toBeVisible()
      await page.getByRole('textbox', { name: 'Prompt' }).fill('The king')
      const session = await browser.newBrowserCDPSession()
      // The page itself asks for it, after its second token: a test that looks may look too late.
      await page.exposeFunction('loseDevice', () => session.send('Browser.crashGpuProcess').catch(() => {}))
      await page.evaluate(() => {
        const switcher = document.querySelector('expert-switcher')!
        switcher.maxNewTokens = 5
        let written = 0
        switcher.addEventListener('token', () => {
          if (++written === 2) void window.loseDevice()
        })
      })
      await page.getByRole('button', { name: 'Write' }).click()
      await expect(page.getByText('The GPU was lost. It is being started again')).toBeVisible()
      await expect(page.locator('.run [data-token]')).toHaveCount(5, { timeout: 120_000 })
      await expect(page.locator('.run .mark')).toHaveText(['Bard'])
      await expect(page.getByRole('alert')).toHaveCount(0)
      await expect(card(page, 'Bard').getByText('in hand')).toBeVisible()
      await expect(page.getByRole('button', { name: 'Write' })).toBeVisible()
    })

    test('one that is lost again and again says so; one button starts again, with the pen in hand', async () => {
      await page.evaluate(() => {
        const { loader } = document.querySelector('expert-switcher')!.state
        const lost = new Error('Cannot go on: the GPU device was lost (the driver was reset)')
        Object.assign(lost, { name: 'TritswapError', tag: 'device-lost' })
        Object.assign(loader!, {
          // biome-ignore lint/correctness/useYield: it fails before the first token
          generate: async function* () {
            throw lost
          },
        })
      })
      await page.getByRole('textbox', { name: 'Prompt' }).fill('Once')
      await page.getByRole('button', { name: 'Write' }).click()
      await expect(page.getByRole('heading', { name: 'The GPU was lost' })).toBeVisible()
      await look(page, 'device-lost')
      // expert_switcher.browser.test.ts starts again with a fake engine.
      if (!LONG) return
      await page.getByRole('button', { name: 'Start again' }).click()
      await ready(page)
      await expect(card(page, 'Bard').getByText('in hand')).toBeVisible()
      await page.evaluate(() => {
        document.querySelector('expert-switcher')!.maxNewTokens = 2
      })
      await page.getByRole('button', { name: 'Write' }).click()
      await expect(page.locator('.run [data-token]')).toHaveCount(2)
      await expect(page.locator('.run .mark')).toHaveText(['Bard'])
    })
  })
