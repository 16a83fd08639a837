/**
 * The benchmark on a small scale: that it runs, measures what it names, and makes a report. The quick tier runs its
 * cheapest group. How long anything took is not looked at.
 *
 * @module
 */
import { expect, test } from '@playwright/test'
import { compareReports } from './bench/compare.ts'
import { benchmarksPage } from './bench/doc.ts'
import { WAYS } from './bench/names.ts'
import { benchOptions } from './bench/options.ts'
import { reportPage } from './bench/report/page.ts'
import { runBench } from './bench/run.ts'
import { summaryText } from './bench/table.ts'
import { LONG } from './support/tier.ts'

const SCALING = ['A → B, *', 'apply at *', 'on and off *']
const ALL = [
  'cold expert*',
  'plain fetch*',
  'resident switch*',
  'base after all switches*',
  'VRAM: .trit expert',
  '* on the GPU: base → A',
  '*: host',
  '*: to the GPU',
  '*: apply',
  'first token: *',
  ...SCALING,
]
const ONLY = LONG ? ALL : SCALING
const SCALE = {
  sizes: [2 ** 16, 2 ** 17, 2 ** 18],
  densities: LONG ? [0.02, 0.05, 0.2] : [0.02, 0.2],
  densityWeights: 2 ** 16,
  residents: [1, 4],
}

test('the benchmark measures, and its report says what on', async ({ page }) => {
  const options = benchOptions([
    '--runs',
    '2',
    '--adapter',
    'software',
    ...ONLY.flatMap((one) => ['--only', one]),
  ])
  const report = await runBench(options, {}, SCALE)
  expect(report.skipped).toEqual([])

  for (const { name, unit, median, spread, n, unreliable } of report.cases) {
    expect(Number.isFinite(median) && median >= 0, `${name}: ${median}`).toBe(true)
    expect(spread, name).toBeGreaterThanOrEqual(0)
    // Quick cases are run three times as often as asked for.
    expect(unit === 'ms' || unit === 'tokens/s' ? [2, 6] : [1], name).toContain(n)
    // Two samples are too few to rely on.
    if (n < 3) expect(unreliable, name).toBe(unit === 'ms')
  }
  const names = report.cases.map(({ name }) => name)
  expect(new Set(names).size).toBe(names.length)
  for (const pattern of ONLY) {
    const parts = pattern.split('*')
    expect(
      names.some((name) => parts.every((part) => name.includes(part))),
      pattern,
    ).toBe(true)
  }

  const { ratios, adapter, notes, scaling, transfer, opening } = report
  expect(adapter.software).toBe(true)
  expect(ratios.bytesVsF16Delta).toBeLessThanOrEqual(1 / 40)
  const measured = LONG ? (['denseVsApply', 'coldLoadVsFetch', 'adapterVsAuto', 'fullVsAuto'] as const) : []
  for (const name of [...measured, 'linearR2', 'residentSpread'] as const)
    expect(ratios[name], name).toEqual(expect.any(Number))
  // Not asked for here.
  expect(ratios.reloadVsSwitch).toBeNull()
  expect(ratios.hoistedVsPlain).toBeNull()
  if (LONG) {
    expect(notes['.trit: going back is exact']).toBe(true)
    expect(notes['.trit on the GPU: going back is exact']).toBe(true)
    expect(notes['dense f16 delta: going back is exact']).toBe(false)
  }
  expect(scaling.weights.points.map(({ x }) => x)).toEqual(SCALE.sizes)
  expect(transfer.rows).toHaveLength(LONG ? 4 : 0)
  // In the quick tier opening.test.ts has its files and its rows.
  expect(opening.rows.map(({ way }) => way)).toEqual(LONG ? WAYS : [])

  const says = 'a software adapter'
  expect(summaryText(report)).toContain(says)
  expect(benchmarksPage(report)).toContain(says)
  expect(compareReports(report, report)).toContain(`0 better, 0 worse, ${report.cases.length} within noise`)

  const failures: string[] = []
  page.on('pageerror', (error) => failures.push(String(error)))
  await page.route('**/report.html', async (route) =>
    route.fulfill({ body: await reportPage(report), contentType: 'text/html' }),
  )
  const asked: string[] = []
  page.on('request', (request) => asked.push(request.url()))
  await page.goto('/report.html')
  await expect(page.locator('.uplot')).toHaveCount(LONG ? 4 : 3)
  await expect(page.locator('.adapter')).toContainText(says)
  expect(failures).toEqual([])
  expect(asked, 'the report is one file').toHaveLength(1)
})
