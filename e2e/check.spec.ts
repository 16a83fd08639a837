/** The page that checks a visitor's own GPU. */
import { expect, test } from '@playwright/test'
import { expectAccessible } from './support/page.ts'
import { LONG } from './support/tier.ts'

test('kernels, switches and tokens of this GPU, as a report to copy', async ({ page, context }) => {
  await context.grantPermissions(['clipboard-read', 'clipboard-write'])
  // The kernels have a test of their own (tests/gpu/conformance.browser.test.ts); here it is what the page makes of them.
  const some = LONG ? '' : '&kernels=fill,fused,checksum&rounds=1&tokens=2&vram=4'
  await page.goto(`check.html?cases=1${some}`)
  await expectAccessible(page)
  const steps = page.getByRole('list', { name: 'Checks' }).getByRole('listitem')
  const limit = LONG ? 64 : 4
  await page.getByLabel('Video memory for the tensors of a model, at most').selectOption(`${limit} MB`)
  await page.getByRole('button', { name: 'Start' }).click()
  await expect(page.getByRole('status')).toHaveText('The check has finished.', { timeout: 240_000 })
  await expect(steps).toHaveText([
    /right\s*This GPU: .*software/,
    /right\s*Kernels: all \d+ match/,
    /right\s*Qwen2.5-0.5B: 168 tensors, .*: a switch takes/,
    /right\s*SmolLM2-135M: 272 tensors, .*: a switch takes/,
    /right\s*The demo: a switch/,
  ])
  await expectAccessible(page)
  await page.getByRole('button', { name: 'Copy the report' }).click()
  await expect(page.getByRole('button', { name: 'Copied' })).toBeVisible()
  const report = await page.evaluate(() => navigator.clipboard.readText())
  expect(report).toMatch(/adapter: .*swiftshader.*\(software\)/i)
  expect(report).toMatch(/kernels: (\d+) of \1 match their references, on 1 random cases each/)
  expect(report).toMatch(
    new RegExp(
      `Qwen2.5-0.5B in at most ${limit} MB: .*apply .*A to B .*revert .*the base again, bit for bit`,
    ),
  )
  expect(report).toMatch(new RegExp(`SmolLM2-135M in at most ${limit} MB: .*the base again, bit for bit`))
  expect(report).toContain('weights after all switches: the base again, bit for bit')
})

test('Stop ends it, and says so in the report', async ({ page }) => {
  await page.goto('check.html')
  await page.getByRole('button', { name: 'Start' }).click()
  await expect(page.getByRole('listitem').nth(1)).toContainText('running')
  await page.getByRole('button', { name: 'Stop' }).click()
  await expect(page.getByLabel('Report')).toContainText('stopped before the end')
  await expect(page.getByRole('button', { name: 'Start' })).toBeEnabled()
})
