/**
 * Looks at a state of the page: axe finds nothing in it, it fits, and a picture is taken of it. In the long tier it is
 * looked at on a desktop and on a phone, in light and in dark; in the quick tier in one of these four, by turns.
 *
 * @module
 */
import { join } from 'node:path'
import { expect, type Page } from '@playwright/test'
import { expectNoSeriousViolations } from './page.ts'
import { LONG } from './tier.ts'

const ROOT = join(import.meta.dirname, '../..')
/** Where pictures are written, and how; those of the docs are small. */
const PICTURES = process.env.SCREENSHOTS
  ? { folder: join(ROOT, 'docs/images/states'), type: 'jpeg' as const, quality: 60 }
  : { folder: join(ROOT, 'test-results/states'), type: 'png' as const }
export const DESKTOP = { width: 1280, height: 800 }
export const PHONE = { width: 390, height: 844 }
/** The ways that visitors see the page. */
const FORMS = Object.entries({ phone: PHONE, desktop: DESKTOP }).flatMap(([device, viewport]) =>
  (['dark', 'light'] as const).map((colorScheme) => ({ device, viewport, colorScheme })),
)
const STATES = [
  'no-webgpu',
  'loading',
  'partial',
  'error',
  'empty-registry',
  'ready',
  'written',
  'offline',
  'device-lost',
  'skills',
  'chat',
  'first',
  'first-skills',
  'own',
  'auto',
] as const

export async function look(page: Page, state: (typeof STATES)[number]): Promise<void> {
  const all = LONG || process.env.SCREENSHOTS !== undefined
  const turn = STATES.indexOf(state) % FORMS.length
  for (const { device, viewport, colorScheme } of all ? FORMS : [FORMS[turn]!]) {
    await page.setViewportSize(viewport)
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' })
    await expectNoSeriousViolations(page)
    await page.evaluate(() => window.scrollTo(0, 0))
    const { folder, ...options } = PICTURES
    await page.screenshot({
      ...options,
      path: join(folder, `${state}-${device}-${colorScheme}.${options.type}`),
    })
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)
    expect(overflow, `${state} is wider than a ${device}`).toBeLessThanOrEqual(0)
  }
  await page.setViewportSize(DESKTOP)
}
