/**
 * The built library on other people's pages: two lines, from the page's own origin and from another one, each under
 * the narrowest policy that docs/EMBED.md names.
 *
 * @module
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, type Page, test } from '@playwright/test'
import { startStaticServer } from './servers/static_server.ts'
import { codeBlocks } from './support/markdown.ts'
import { ready } from './support/page.ts'

const ROOT = join(import.meta.dirname, '..')
const GUIDE = readFileSync(join(ROOT, 'docs/EMBED.md'), 'utf8')
const [twoLines, withScript] = codeBlocks(GUIDE, 'html') as [string, string]
const [ownPolicy, otherPolicy] = [...GUIDE.matchAll(/^\|.*\| `(default-src [^`]+)` \|$/gm)].map(
  (match) => match[1]!,
) as [string, string]

/** The library as `tritswap/`, base and experts. */
const HOSTED = { 'tritswap/': join(ROOT, 'lib'), '': join(ROOT, 'public') }

/** What the browser has against the page. */
function complaintsOf(page: Page): string[] {
  const complaints: string[] = []
  page.on('console', (message) => {
    // The icon that browsers ask for.
    const { url } = message.location()
    if (message.type() === 'error' && !url.endsWith('/favicon.ico'))
      complaints.push(`${message.text()} ${url}`)
  })
  page.on('pageerror', (error) => complaints.push(error.message))
  return complaints
}

async function writesWithBard(page: Page): Promise<void> {
  await ready(page)
  await page.evaluate(async () => {
    const switcher = document.querySelector('expert-switcher')!
    switcher.prompt = 'The king'
    switcher.maxNewTokens = 2
    await switcher.activate('bard')
    await switcher.generate()
  })
  await expect(page.locator('.run [data-token]')).toHaveCount(2)
  await expect(page.locator('.run .mark')).toHaveText('Bard')
}

test('two lines from another origin, under a strict policy with worker-src blob:', async ({ page }) => {
  const host = await startStaticServer(HOSTED, '/', { cors: true })
  const origin = host.url.slice(0, -1)
  const site = await startStaticServer({}, '/', {
    policy: otherPolicy.replaceAll('https://your.host', origin),
    pages: {
      'index.html': `<!doctype html><title>Mine</title>${twoLines.replaceAll('https://your.host', origin)}`,
    },
  })
  try {
    const complaints = complaintsOf(page)
    await page.goto(site.url)
    await writesWithBard(page)
    expect(new URL(page.url()).origin).not.toBe(origin)
    // The icon that browsers ask for.
    expect(complaints).toEqual([])
  } finally {
    await site.close()
    await host.close()
  }
})

test('two lines from the own origin, in a folder, under the strictest policy', async ({ page }) => {
  const pages = {
    'index.html': `<!doctype html><title>Mine</title>${twoLines.replaceAll('https://your.host/', '')}`,
  }
  const host = await startStaticServer(HOSTED, '/some/where/', { policy: ownPolicy, pages })
  try {
    const complaints = complaintsOf(page)
    await page.goto(host.url)
    await writesWithBard(page)
    expect(complaints).toEqual([])
  } finally {
    await host.close()
  }
})

test('events and methods, as the guide shows them', async ({ page }) => {
  const pages = {
    'index.html': `<!doctype html><title>Mine</title>${withScript.replaceAll('https://your.host/', '')}`,
  }
  const policy = `${ownPolicy} 'unsafe-inline'`
  const host = await startStaticServer(HOSTED, '/', { policy, pages })
  try {
    const complaints = complaintsOf(page)
    await page.goto(host.url)
    await expect(page.locator('#who')).toHaveText('bard', { timeout: 120_000 })
    await expect(page.locator('.run [data-token]')).toHaveCount(4)
    expect(complaints).toEqual([])
  } finally {
    await host.close()
  }
})

test('the library without the element, as guide and README show it', async ({ page }) => {
  const readme = readFileSync(join(ROOT, 'README.md'), 'utf8')
  const [quickStart] = codeBlocks(readme, 'ts')
  const [guide] = codeBlocks(GUIDE, 'ts')
  const map = JSON.stringify({ imports: { tritswap: './tritswap/tritswap.js' } })
  const pageOf = (code: string) =>
    `<!doctype html><title>Mine</title><body><script type="importmap">${map}</script>
    <script type="module">${code}\ndocument.title = 'Done'</script>`
  const pages = { 'quick.html': pageOf(quickStart!), 'guide.html': pageOf(guide!) }
  const policy = `${ownPolicy} 'unsafe-inline'`
  const host = await startStaticServer(HOSTED, '/', { policy, pages })
  try {
    const complaints = complaintsOf(page)
    const said: string[] = []
    page.on('console', (message) => said.push(message.text()))
    await page.goto(`${host.url}quick.html`)
    await expect(page).toHaveTitle('Done', { timeout: 120_000 })
    expect((await page.locator('body').innerText()).trim()).not.toBe('')
    await page.goto(`${host.url}guide.html`)
    await expect(page).toHaveTitle('Done', { timeout: 120_000 })
    expect(said.at(-1)).not.toBe('')
    expect(complaints).toEqual([])
  } finally {
    await host.close()
  }
})
