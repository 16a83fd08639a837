/**
 * The page's two doors, and the chat behind the second one, on a model of 60,000 weights that has a chat template and one
 * skill.
 *
 * @module
 */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { type BrowserContext, expect, type Page, test } from '@playwright/test'
import { formatBytes } from '../src/element/units.ts'
import { readHead } from '../src/format/index.ts'
import { memorySource } from '../src/source/memory.ts'
import type { Registry } from '../src/source/registry.ts'
import { type StaticServer, startStaticServer } from './servers/static_server.ts'
import { codeBlocks } from './support/markdown.ts'
import { card, expectAccessible, pen } from './support/page.ts'
import { DESKTOP, look, PHONE } from './support/states.ts'
import { LONG, ONLY_LONG } from './support/tier.ts'

const ROOT = join(import.meta.dirname, '..')
const TINY = join(ROOT, 'tests/fixtures/tiny_chat')

const skill = readFileSync(join(TINY, 'shout.trit')) as Buffer<ArrayBuffer>
const registry: Registry = {
  version: 1,
  experts: [
    {
      id: 'shout',
      label: 'Shout',
      description: 'Says it louder.',
      url: 'shout.trit',
      bytes: skill.length,
      rootHash: (await readHead(memorySource(new Uint8Array(skill), 'shout'))).rootHash,
      system: 'Shout.',
      samples: ['What color is coal?'],
      scores: { base: 0.02, adapter: 0.95, expert: 0.93, n: 100 },
      replaces: { f16Lora: 20_000, f16Delta: 120_000 },
    },
  ],
}

/** The page with the tiny model behind the door of skills. */
async function tinySkills(page: Page | BrowserContext): Promise<StaticServer> {
  await page.route('**/experts/smollm2/experts.json', (route) => route.fulfill({ json: registry }))
  await page.route('**/experts/smollm2/shout.trit', (route) => route.fulfill({ body: skill }))
  return startStaticServer({ 'models/smollm2/': TINY, '': join(ROOT, 'dist') }, '/')
}

const answer = (page: Page) => page.getByRole('article', { name: /^Answer by/ }).last()
const sizeOf = (...path: string[]) => statSync(join(ROOT, 'dist', ...path)).size

test('both doors are on the first screen, with the bytes that each fetches', async ({ page }) => {
  const server = await startStaticServer({ '': join(ROOT, 'dist') }, '/')
  await page.route('**/models/demo/weights.trit', (route) => route.abort())
  const workers = readdirSync(join(ROOT, 'dist/assets')).filter((name) => name.startsWith('worker-'))
  const engine = [
    ...workers.map((name) => sizeOf('assets', name)),
    // Of a file that is there compressed, too, this host sends the one that is not. Grammars are fetched by calls that ask for one.
    ...readdirSync(join(ROOT, 'dist/ort'))
      .filter((name) => !/\.(br|gz)$|^grammar/.test(name))
      .map((name) => sizeOf('ort', name)),
  ]
  const base = ['weights.trit', 'onnx/model.onnx', 'tokenizer.json'].map((name) =>
    sizeOf('models/demo', name),
  )
  const all = [...engine, ...base].reduce((sum, bytes) => sum + bytes, 0)
  for (const viewport of [DESKTOP, PHONE]) {
    await page.setViewportSize(viewport)
    await page.goto(server.url)
    const writers = page.getByRole('link', { name: /^Writers/ })
    await expect(writers).toContainText(formatBytes(all))
    await expect(writers).toHaveAttribute('aria-current', 'page')
    for (const door of [writers, page.getByRole('link', { name: /^Skills/ })])
      await expect(door).toBeInViewport()
  }
  await server.close()
})

test.describe
  .serial('skills', () => {
    let context: BrowserContext
    let page: Page
    let server: StaticServer
    const requested: string[] = []

    test.beforeAll(async ({ browser }) => {
      context = await browser.newContext({ viewport: DESKTOP })
      context.on('request', (request) => {
        // The page asks how large files are, without their bytes.
        if (request.method() !== 'HEAD') requested.push(new URL(request.url()).pathname)
      })
      page = await context.newPage()
      server = await tinySkills(context)
    })

    test.afterAll(async () => {
      await context.close()
      await server.close()
    })

    test('nothing of the base is fetched before the visitor asks for it', async () => {
      await page.goto(`${server.url}?skills`)
      await expect(page.getByRole('link', { name: /^Skills/ })).toHaveAttribute('aria-current', 'page')
      await expect(pen(page, 'Shout')).toBeVisible()
      await expect(page.locator('expert-switcher .state')).toContainText(
        /To download: .* of WebAssembly, .* of scripts/,
      )
      expect(requested.filter((path) => /\.wasm$|smollm2\/onnx\//.test(path))).toEqual([])
      await expect(card(page, 'Shout')).toContainText('93 % of 100 answers exact, base 2 %')
      await look(page, 'skills')
      await page.getByRole('button', { name: 'Load the base' }).click()
      await expect(page.getByText('Ready. Ask something')).toBeVisible({ timeout: 120_000 })
    })

    test('a question is answered by the base, by keyboard', async () => {
      const prompt = page.getByRole('textbox', { name: 'Your message' })
      await prompt.fill('What color is coal?')
      await prompt.press('Enter')
      await expect(prompt).toHaveValue('')
      await expect(answer(page).getByRole('button', { name: 'Copy' })).toBeVisible()
      await expect(answer(page).locator('.run')).toHaveText('It is black.')
      await expect(page.getByRole('article', { name: 'Answer by Base' })).toHaveCount(1)
      await expect(page.locator('trit-chat').getByRole('status')).toContainText(
        /A token takes .* on this software adapter/,
      )
    })

    test('its sample takes the skill and asks it, in the skill’s ink and under its name', async () => {
      await page.getByRole('button', { name: 'Shout What color is coal?' }).click()
      await expect(page.getByRole('article', { name: 'Answer by Shout' })).toBeVisible()
      await expect(answer(page).getByRole('button', { name: 'Regenerate' })).toBeVisible()
      await expect(answer(page).locator('.run')).toHaveText('IT IS BLACK.')
      await expect(answer(page).locator('.run')).toHaveAttribute('data-ink', '1')
      await expect(card(page, 'Shout')).toContainText('in hand')
      await look(page, 'chat')
    })

    test('the base answers the same again, and is as it was', async () => {
      await pen(page, 'Base').check()
      await expect(card(page, 'Base')).toContainText('in hand')
      await answer(page).getByRole('button', { name: 'Regenerate' }).click()
      await expect(answer(page)).toHaveAccessibleName('Answer by Base')
      await expect(answer(page).getByRole('button', { name: 'Copy' })).toBeVisible()
      await expect(answer(page).locator('.run')).toHaveText('It is black.')
    })

    test('what it is told to stop at is not shown, and a cut answer goes on', async () => {
      await page.getByRole('button', { name: 'New chat' }).click()
      await expect(page.getByRole('article')).toHaveCount(0)
      await page.evaluate(() => {
        document.querySelector('expert-switcher')!.maxNewTokens = 2
      })
      await page.getByRole('textbox', { name: 'Your message' }).fill('Count from one to six.')
      await page.getByRole('button', { name: 'Send' }).click()
      await expect(answer(page)).toContainText('Cut at the token limit.')
      const cut = await answer(page).locator('.run').innerText()
      await page.evaluate(() => {
        Object.assign(document.querySelector('expert-switcher')!, { maxNewTokens: 40, stopStrings: ', five' })
      })
      await answer(page).getByRole('button', { name: 'Continue' }).click()
      await expect(answer(page).locator('.run')).toHaveText('one, two, three, four')
      expect('one, two, three, four').toContain(cut)
      expect(await page.getByRole('log', { name: 'Chat' }).innerText()).not.toContain('<|')
    })

    test('left to the question, the skill is found; the answer says why, and another one can be taken', async () => {
      await page.evaluate(() => {
        Object.assign(document.querySelector('expert-switcher')!, {
          maxNewTokens: 40,
          stopStrings: undefined,
        })
      })
      await page.getByRole('switch', { name: 'Let each question choose its skill' }).check()
      await page.getByRole('textbox', { name: 'Your message' }).fill('What color is coal?')
      await page.getByRole('button', { name: 'Send' }).click()
      await expect(answer(page)).toHaveAccessibleName('Answer by Shout')
      await expect(answer(page).locator('.run')).toHaveText('IT IS BLACK.')
      await expect(answer(page).locator('.found')).toContainText(/Shout: \d+ % like what Shout was made for/)
      await look(page, 'auto')
      await answer(page).getByLabel('Answer with').selectOption('Base')
      await expect(answer(page)).toHaveAccessibleName('Answer by Base')
      await expect(answer(page).locator('.run')).toHaveText('It is black.')
    })

    test('a registry that was swapped is refused, and its skills go on answering', async () => {
      const swapped = { version: 1, experts: [{ ...registry.experts[0], label: 'Swapped' }] }
      await page.route('**/experts/smollm2/experts.json', (route) => route.fulfill({ json: swapped }))
      const hash = createHash('sha256').update(JSON.stringify(registry)).digest('base64')
      await page.evaluate((integrity) => {
        document.querySelector('expert-switcher')!.integrity = integrity
      }, `sha256-${hash}`)
      await expect(page.locator('trit-pen-choice [role=alert]')).toContainText('as this page holds to')
      await page.getByRole('textbox', { name: 'Your message' }).fill('What color is coal?')
      await page.getByRole('button', { name: 'Send' }).click()
      await expect(answer(page)).toHaveAccessibleName('Answer by Shout')
      await page.unroute('**/experts/smollm2/experts.json')
      await page.route('**/experts/smollm2/experts.json', (route) => route.fulfill({ json: registry }))
      await page.getByRole('button', { name: 'Try again' }).click()
      await expect(page.locator('trit-pen-choice [role=alert]')).toHaveCount(0)
    })

    test('axe finds nothing serious, in light and in dark', async () => {
      await expectAccessible(page)
    })
  })

test('the chat of the guide, on another page', async ({ page }) => {
  const host = await startStaticServer(
    { 'tritswap/': join(ROOT, 'lib'), 'models/smollm2/': TINY, '': join(ROOT, 'public') },
    '/',
    { cors: true },
  )
  const code = codeBlocks(readFileSync(join(ROOT, 'docs/EMBED.md'), 'utf8'), 'html').find((block) =>
    block.includes('mode="chat"'),
  )!
  const site = await startStaticServer({}, '/', {
    policy: '',
    pages: {
      'index.html': `<!doctype html><title>Mine</title>${code.replaceAll('https://your.host/', host.url)}`,
    },
  })
  await page.route('**/experts/smollm2/experts.json', (route) =>
    route.fulfill({ json: registry, headers: { 'Access-Control-Allow-Origin': '*' } }),
  )
  try {
    await page.goto(site.url)
    await expect(page.getByText(/To download: .* of WebAssembly/)).toBeVisible()
    await expect(pen(page, 'Shout')).toBeVisible()
    // In the quick tier embed.spec.ts loads a base from another origin, and the page above answers.
    if (!LONG) return
    await page.evaluate(() => document.querySelector('expert-switcher')!.ask('What color is coal?'))
    await expect(answer(page).locator('.run')).toHaveText('It is black.')
  } finally {
    await site.close()
    await host.close()
  }
})

test('SmolLM2: a skill answers, and the page says how long that takes', async ({ page }) => {
  test.skip(!LONG, ONLY_LONG)
  test.setTimeout(3_600_000)
  await page.goto('./?skills')
  await page.getByRole('button', { name: 'Load the base' }).click()
  await expect(page.getByText('Ready. Ask something')).toBeVisible({ timeout: 600_000 })
  await page.locator('.samples button').first().click()
  await expect(answer(page).locator('.run')).not.toBeEmpty({ timeout: 600_000 })
  await expect(page.locator('trit-chat').getByRole('status')).toContainText(/on a software adapter/)
  await page.getByRole('button', { name: 'Stop', exact: true }).click()
  await expect(answer(page).getByRole('button', { name: 'Continue' })).toBeVisible({ timeout: 600_000 })
  expect(await page.getByRole('log', { name: 'Chat' }).innerText()).not.toContain('<|')
})
