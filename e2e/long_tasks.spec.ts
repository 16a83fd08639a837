/**
 * The page stays responsive: no task of its own on its main thread takes 50 ms or longer of processor time, from the first
 * byte to writing with a pen that is changed. Time of the processor, not of the clock: others may share it.
 *
 * @module
 */
import { type Browser, expect, type Page, test } from '@playwright/test'
import { pen, ready, showSection } from './support/page.ts'
import { DESKTOP } from './support/states.ts'
import { LONG, ONLY_LONG } from './support/tier.ts'

const LONGEST_MS = 50
const TASK = 'RunTask'

interface TraceEvent {
  name: string
  ph: string
  pid: number
  tid: number
  ts: number
  /** µs by the clock, and of the processor. */
  dur?: number
  tdur?: number
  args: { name?: string; data?: { url?: string; functionName?: string; type?: string } }
}

interface LongTask {
  ms: number
  /** What ran in it, the longest first. */
  within: string[]
}

/** What events stand for: their scripts and names, with ms of the processor. */
function described({ name, tdur = 0, args }: TraceEvent): string {
  const { url = '', functionName = '', type = '' } = args.data ?? {}
  const what = [name, type, functionName, url.split('/').at(-1)].filter(Boolean).join(' ')
  return `${what}: ${(tdur / 1000).toFixed(0)} ms`
}

/** Tasks of the main threads of pages that took too long. */
function longTasks(events: readonly TraceEvent[]): LongTask[] {
  const mains = new Set(
    events
      .filter(({ name, args }) => name === 'thread_name' && args.name === 'CrRendererMain')
      .map(({ pid, tid }) => `${pid} ${tid}`),
  )
  const timed = events.filter(({ ph, pid, tid }) => ph === 'X' && mains.has(`${pid} ${tid}`))
  const isLong = ({ name, tdur = 0 }: TraceEvent) => name === TASK && tdur >= LONGEST_MS * 1000
  return timed.filter(isLong).map((task) => {
    const within = timed.filter(
      ({ name, pid, ts, tdur = 0 }) =>
        name !== TASK && pid === task.pid && ts >= task.ts && ts < task.ts + (task.dur ?? 0) && tdur > 3000,
    )
    return {
      ms: Math.round((task.tdur ?? 0) / 1000),
      within: within
        .toSorted((a, b) => (b.tdur ?? 0) - (a.tdur ?? 0))
        .slice(0, 8)
        .map(described),
    }
  })
}

/** What runs while the page does something. */
async function during(browser: Browser, page: Page, act: () => Promise<void>): Promise<LongTask[]> {
  const categories = ['toplevel', 'devtools.timeline', 'v8.execute']
  await browser.startTracing(page, { categories })
  await act()
  const { traceEvents } = JSON.parse((await browser.stopTracing()).toString()) as {
    traceEvents: TraceEvent[]
  }
  return longTasks(traceEvents)
}

test('no task of the page keeps its visitor waiting', async ({ browser, page }) => {
  test.skip(!LONG, ONLY_LONG)
  test.setTimeout(600_000)
  await page.setViewportSize(DESKTOP)
  const found: Record<string, LongTask[]> = {}
  const look = async (what: string, act: () => Promise<void>) => {
    found[what] = await during(browser, page, act)
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
