/**
 * The built page on a plain static host, in a folder, under a strict content security policy.
 *
 * @module
 */
import { join } from 'node:path'
import { AxeBuilder } from '@axe-core/playwright'
import { expect, test } from '@playwright/test'
import { startStaticServer } from './servers/static_server.ts'

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
    await expect(page.getByRole('button', { name: 'Write' })).toBeEnabled({ timeout: 120_000 })
    await expect(page.getByText('in hand × 0.5')).toBeVisible()
    await page.evaluate(() => {
      document.querySelector('expert-switcher')!.maxNewTokens = 2
    })
    await page.getByRole('button', { name: 'Write' }).click()
    await expect(page.getByRole('button', { name: 'Write' })).toBeVisible()
    await expect(page.locator('.run[data-ink="6"] [data-token]')).toHaveCount(2)

    await page.mouse.wheel(0, 10)
    await page.locator('#below').scrollIntoViewIfNeeded()
    await expect(page.getByRole('heading', { name: 'How it works' })).toBeAttached()
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme })
      const { violations } = await new AxeBuilder({ page }).analyze()
      const serious = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical')
      expect(serious.map(({ id, nodes }) => ({ id, html: nodes[0]?.html }))).toEqual([])
    }
    expect(complaints).toEqual([])
    expect(outside).toEqual([])
  } finally {
    await server.close()
  }
})
