import { expect, test } from 'vitest'
import { progressReporter } from '../../src/fetcher/progress.ts'
import type { FetchProgress } from '../../src/fetcher/protocol.ts'

test('at most twenty events a second, never backwards, and the last one always', () => {
  const events: FetchProgress[] = []
  let now = 0
  const report = progressReporter(
    'austen',
    'austen.trit',
    (event) => events.push(event),
    () => now,
  )
  report('download', 'network')
  for (now = 0; now < 1000; now++) report('progress', 'network', now, 1000)
  report('progress', 'network', 1000, 1000)
  report('done', undefined, 1000, 1000)
  const progress = events.filter(({ status }) => status === 'progress')
  expect(progress.length).toBeLessThanOrEqual(21)
  expect(progress.length).toBeGreaterThan(15)
  expect(progress.every(({ loaded }, i) => i === 0 || loaded! >= progress[i - 1].loaded!)).toBe(true)
  expect(events[0]).toEqual({ status: 'download', name: 'austen', file: 'austen.trit', phase: 'network' })
  expect(events.at(-1)).toMatchObject({ status: 'done', loaded: 1000, total: 1000, progress: 100 })
})

test('bytes that came twice do not count twice', () => {
  const loaded: (number | undefined)[] = []
  let now = 0
  const report = progressReporter(
    'a',
    'a',
    (event) => loaded.push(event.loaded),
    () => now,
  )
  for (const bytes of [50, 30, 120, 90]) {
    now += 100
    report('progress', 'network', bytes, 100)
  }
  expect(loaded).toEqual([50, 50, 100, 100])
})
