/**
 * The built page on a plain static host, in a folder, under a strict content security policy.
 *
 * @module
 */
import { join } from 'node:path'
import { expect, test } from '@playwright/test'
import { startStaticServer } from './servers/static_server.ts'
import { expectAccessible, showSection } from './support/page.ts'

const DIST = join(new URL('..', import.meta.url).pathname, 'dist')

test('at /x/y/ it loads, writes with the expert of the link, and has its lower half', async ({ page }) => {
  const server = await startStaticServer({ '': DIST }, '/x/y/')
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
    await page.evaluate(() => {
      document.querySelector('expert-switcher')!.maxNewTokens = 2
    })
    // Nothing is fetched before a touch.
    await page.getByRole('button', { name: 'Write' }).click()
    await expect(page.locator('.run[data-ink="6"] [data-token]')).toHaveCount(2, { timeout: 120_000 })
    await expect(page.getByText('in hand × 0.5')).toBeVisible()

    await showSection(page, 'How it works')
    await expectAccessible(page, ['light'])
    expect(complaints).toEqual([])
    expect(outside).toEqual([])
  } finally {
    await server.close()
  }
})
