/**
 * What a visitor meets before anything is loaded: a recorded run, and what it cost. How it becomes live is in main.spec.ts.
 *
 * @module
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, type Page, test } from '@playwright/test'
import type { Recording } from '../src/demo/recording.ts'
import { formatBytes } from '../src/element/units.ts'
import { expectAccessible, expectNoSeriousViolations, pen, showSection } from './support/page.ts'
import { DESKTOP, look, PHONE } from './support/states.ts'

const ROOT = join(import.meta.dirname, '..')
const recordingOf = (door: string): Recording =>
  JSON.parse(readFileSync(join(ROOT, 'public/recorded', `${door}.json`), 'utf8'))

const run = (page: Page) => page.getByRole('region', { name: 'A recorded run' })

/** Requests for what a base is made of, as they come. */
function requestsForBase(page: Page): string[] {
  const found: string[] = []
  page.on('request', (request) => {
    if (/\.wasm$|\.trit(\.\d+)?$/.test(new URL(request.url()).pathname) && request.method() === 'GET')
      found.push(request.url())
  })
  return found
}

for (const [door, search, state] of [
  ['writers', './', 'first'],
  ['skills', './?skills', 'first-skills'],
] as const) {
  test(`the recorded run of ${door} plays by itself, without a GPU and before any byte of a model`, async ({
    page,
  }) => {
    const { begin, voices } = recordingOf(door)
    const asked = requestsForBase(page)
    await page.addInitScript(() => Reflect.deleteProperty(Navigator.prototype, 'gpu'))
    await page.setViewportSize(DESKTOP)
    await page.goto(search)
    await expect(run(page)).toContainText('Recorded')
    await expect(run(page)).toBeInViewport()
    await expect(run(page)).toContainText(begin)
    for (const { label, tokens } of voices) {
      const text = tokens.map(([token]) => token).join('')
      await expect(run(page).getByRole('article', { name: label }).locator('.ink')).toHaveText(text)
    }
    const [{ bytes, whole }] = voices.filter((voice) => voice.id !== '') as [(typeof voices)[0]]
    await expect(run(page)).toContainText(
      `${formatBytes(bytes)} did this; a fine-tuned model of its own would be ${formatBytes(whole)}`,
    )
    await expectAccessible(page)
    expect(asked).toEqual([])
  })

  test(`the recorded run of ${door} stands there whole for those who want no movement`, async ({ page }) => {
    await page.emulateMedia({ reducedMotion: 'reduce' })
    await page.goto(search)
    await expect(run(page)).toContainText('Recorded')
    await expect(run(page).locator('.rest').first()).toBeEmpty()
    await expect(page.locator('expert-switcher .state p')).toBeInViewport({ ratio: 1 })
    await look(page, state)
  })
}

test('a link that names pens that are not here says so, and keeps the rest within bounds', async ({
  page,
}) => {
  await page.goto('./#prompt=Hello&pens=dante:1,bard:99,nobody&seed=-5')
  await expect(page.locator('#notice')).toHaveText(
    'This link names pens that are not here: dante, nobody. They were left out.',
  )
  await expect(page.getByRole('alert')).toHaveCount(0)
  await expect(pen(page, 'Bard')).toBeChecked()
  const { alpha, seed, prompt } = await page.evaluate(() => {
    const { alpha, seed, prompt } = document.querySelector('expert-switcher')!
    return { alpha, seed, prompt }
  })
  expect({ alpha, seed, prompt }).toEqual({ alpha: 2, seed: 0, prompt: 'Hello' })
})

/** What a visitor can press, that is shown and smaller than a fingertip. */
const smallTargets = (page: Page) =>
  page.evaluate(() => {
    const small: string[] = []
    const visit = (root: Document | ShadowRoot) => {
      for (const element of root.querySelectorAll<HTMLElement>('*')) {
        if (element.shadowRoot) visit(element.shadowRoot)
        if (!element.matches('a[href], button, select, textarea, summary, input:not([type=file])')) continue
        // Those are as large as what they label.
        const target = element.closest('label') ?? element
        const { width, height } = target.getBoundingClientRect()
        if (width > 0 && height > 0 && (height < 43.5 || width < 43.5))
          small.push(`${element.localName} ${element.textContent?.trim().slice(0, 30)} ${width}×${height}`)
      }
    }
    visit(document)
    return small
  })

/** Texts that are cut: more of them than there is room, and no way to scroll there. */
const cutTexts = (page: Page) =>
  page.evaluate(() => {
    const cut: string[] = []
    const visit = (root: Document | ShadowRoot) => {
      for (const element of root.querySelectorAll<HTMLElement>('*')) {
        if (element.shadowRoot) visit(element.shadowRoot)
        const { overflowX, overflowY, display } = getComputedStyle(element)
        if (display === 'inline' || element.closest('.hidden') || element.textContent?.trim() === '') continue
        const { scrollWidth, clientWidth, scrollHeight, clientHeight } = element
        if (
          (/hidden|clip/.test(overflowX) && scrollWidth > clientWidth + 1) ||
          (/hidden|clip/.test(overflowY) && scrollHeight > clientHeight + 1)
        )
          cut.push(`${element.localName}.${element.className} ${element.textContent?.trim().slice(0, 40)}`)
      }
    }
    visit(document)
    return cut
  })

for (const [device, viewport] of Object.entries({ desktop: DESKTOP, phone: PHONE })) {
  test(`on a ${device} nothing is cut, and what is pressed is large enough`, async ({ page }) => {
    await page.setViewportSize(viewport)
    await page.goto('./')
    await expect(run(page)).toContainText('Recorded')
    await expect(pen(page, 'Bard')).toBeVisible()
    await showSection(page, 'Measure')
    expect(await cutTexts(page)).toEqual([])
    if (device === 'desktop') return
    expect(await smallTargets(page)).toEqual([])
    const top = (name: string) =>
      page.locator(name).evaluate((element) => element.getBoundingClientRect().top)
    expect(await top('expert-switcher textarea')).toBeLessThan(await top('trit-pen-choice'))
  })
}

test('the door for files of one’s own is on the first screen', async ({ page }) => {
  await page.goto('./')
  await page.getByRole('link', { name: /^Your own/ }).click()
  await expect(page.getByRole('heading', { name: 'Bring your own LoRA or fine-tune' })).toBeInViewport()
  await expect(page.getByText('Choose a folder')).toBeInViewport()
  await expectNoSeriousViolations(page)
  await look(page, 'own')
  await page.getByRole('combobox', { name: 'It was made for' }).selectOption('the small model of stories')
  await expect(page).toHaveURL(/\?own&model=/)
  await expect(pen(page, 'Austen')).toBeVisible()
})

test('the footer leads somewhere', async ({ page, baseURL }) => {
  await page.goto('./')
  await showSection(page, 'How it works')
  const links = await page
    .locator('footer a')
    .evaluateAll((all) => all.map((each) => (each as HTMLAnchorElement).href))
  expect(links.length).toBeGreaterThanOrEqual(6)
  for (const url of links.filter((each) => each.startsWith(baseURL!)))
    expect((await page.request.get(url)).status(), url).toBe(200)
})
