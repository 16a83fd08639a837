/**
 * Tasks of a page's main thread that keep its visitor waiting, by time of the processor, not of the clock: others may share it.
 *
 * @module
 */
import type { Browser, Page } from '@playwright/test'

/** What browsers call a long task. */
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

export interface LongTask {
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

/** The long tasks while the page does something. */
export async function longTasksDuring(
  browser: Browser,
  page: Page,
  act: () => Promise<unknown>,
): Promise<LongTask[]> {
  const categories = ['toplevel', 'devtools.timeline', 'v8.execute']
  await browser.startTracing(page, { categories })
  await act()
  const { traceEvents } = JSON.parse((await browser.stopTracing()).toString()) as {
    traceEvents: TraceEvent[]
  }
  return longTasks(traceEvents)
}
