/** Helpers of the tests of the page. */
import { AxeBuilder } from '@axe-core/playwright'
import { expect, type Page } from '@playwright/test'
import { LONG } from './tier.ts'

export const pen = (page: Page, label: string) => page.getByRole('radio', { name: label, exact: true })
export const card = (page: Page, label: string) => page.locator('.pen', { has: pen(page, label) })

/** Loads the base, unless the page does it by itself, and waits until it is in VRAM. */
export async function ready(page: Page): Promise<void> {
  // A page may define the element late.
  await page.waitForFunction(() => typeof document.querySelector('expert-switcher')?.load === 'function')
  await page.evaluate(() => document.querySelector('expert-switcher')!.load())
  await expect(page.locator('trit-manuscript')).toBeVisible({ timeout: 120_000 })
}

/** Scrolls to a section of the lower half, which loads when one comes near it. */
export async function showSection(page: Page, heading: string): Promise<void> {
  await page.mouse.wheel(0, 10)
  await page.locator('#below').scrollIntoViewIfNeeded()
  const found = page.getByRole('heading', { name: heading })
  await expect(found).toBeAttached()
  await found.scrollIntoViewIfNeeded()
}

/** Axe finds nothing that keeps people out. */
export async function expectNoSeriousViolations(page: Page): Promise<void> {
  const { violations } = await new AxeBuilder({ page }).analyze()
  const serious = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical')
  expect(serious.map(({ id, nodes }) => ({ id, html: nodes[0]?.html }))).toEqual([])
}

const COLOR_SCHEMES = ['dark', 'light'] as const

/** The same in dark and in light. @param quick - the schemes of the quick tier */
export async function expectAccessible(
  page: Page,
  quick: readonly (typeof COLOR_SCHEMES)[number][] = COLOR_SCHEMES,
): Promise<void> {
  for (const colorScheme of LONG ? COLOR_SCHEMES : quick) {
    await page.emulateMedia({ colorScheme })
    await expectNoSeriousViolations(page)
  }
}
