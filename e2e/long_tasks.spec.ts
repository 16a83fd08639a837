/**
 * The page stays responsive: no task of its own on its main thread takes 50 ms or longer of processor time, from the first
 * byte to writing with a pen that is changed. Time of the processor, not of the clock: others may share it.
 *
 * @module
 */
import { expect, test } from '@playwright/test'
import { type LongTask, longTasksDuring } from './support/long_tasks.ts'
import { pen, ready, showSection } from './support/page.ts'
import { DESKTOP } from './support/states.ts'
import { LONG, ONLY_LONG } from './support/tier.ts'

test('no task of the page keeps its visitor waiting', async ({ browser, page }) => {
  test.skip(!LONG, ONLY_LONG)
  test.setTimeout(600_000)
  await page.setViewportSize(DESKTOP)
  const found: Record<string, LongTask[]> = {}
  const look = async (what: string, act: () => Promise<void>) => {
    found[what] = await longTasksDuring(browser, page, act)
  }
  await look('the recorded run', async () => {
    await page.goto('./')
    await expect(page.locator('trit-recorded-run .rest').first()).toBeEmpty()
    await expect(pen(page, 'Bard')).toBeVisible()
  })
  await look('loading', () => ready(page))
  await look('writing, with another pen on the way', async () => {
    await page.evaluate(async () => {
      const switcher = document.querySelector('expert-switcher')!
      switcher.maxNewTokens = 6
      const written = switcher.generate()
      await new Promise((resolve) => switcher.addEventListener('token', resolve, { once: true }))
      await switcher.activate('bard-distilled-0.05')
      await written
    })
  })
  await look('the sections below', async () => {
    await showSection(page, 'Measure')
    await showSection(page, 'How it works')
  })
  console.log(JSON.stringify(found, null, 1))
  expect(Object.fromEntries(Object.entries(found).filter(([, tasks]) => tasks.length > 0))).toEqual({})
})
