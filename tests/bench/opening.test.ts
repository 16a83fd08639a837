import { expect, test } from 'vitest'
import { benchmarksPage } from '../../e2e/bench/doc.ts'
import { openingCase, WAYS } from '../../e2e/bench/names.ts'
import { makeReport } from '../../e2e/bench/results.ts'
import { summaryText } from '../../e2e/bench/table.ts'

const line = { lineBitsPerSecond: 1e7, latencyMs: 60 }

/** A run in which only the opening problem was measured, of a base whose own first token takes 100 ms. */
function reportOf(times: readonly number[]) {
  const [experts, peers] = [[{ bytes: 200_000 }], { fullBytes: 11e6 }]
  const opening = {
    adapter: { bytes: 15_000, listBytes: 1000 },
    tuned: { bytes: 200_000, listBytes: 1000 },
    f16: { bytes: 450_000 },
  }
  const cases = WAYS.slice(0, times.length).map((way, i) => ({
    name: openingCase(way),
    unit: 'ms',
    samples: [times[i], times[i], times[i]],
  }))
  return makeReport({
    environment: {
      date: '',
      versions: {},
      machine: { load: 0, memoryBytes: 1, cores: 2, system: '', cpu: '' },
    },
    adapter: { software: true, vendor: '', architecture: '', device: '', description: '' },
    options: { runs: 3, only: ['opening'], newTokens: 6, model: 'demo' },
    prepared: { baseWeights: 1, patchedWeights: 1, dtype: 'fp32' },
    config: { experts, peers, opening, sizes: [], densities: [], residents: [1] },
    groups: new Map([['opening', { cases, notes: {}, skipped: [] }]]),
    line,
    slow: { ...line, latencyMs: 100 },
    largest: 1,
  } as unknown as Parameters<typeof makeReport>[0])
}

test('a row a way, with what it fetches and what it adds to the base’s own first token', () => {
  const report = reportOf([100, 220, 430, 400, 700, 9100])
  expect(report.opening.line).toBe('10 Mbit/s, 100 ms before each answer')
  const page = benchmarksPage(report)
  for (const row of [
    '| base alone | 0 B | 100 ms | – |',
    '| auto, .trit of the adapter | 15 kB | 220 ms | 120 ms |',
    '| the same, its list not yet here | 16 kB | 430 ms | 330 ms |',
    '| auto, .trit of the fine-tuning | 200 kB | 400 ms | 300 ms |',
    '| f16 adapter by input | 450 kB | 700 ms | 600 ms |',
    '| full fine-tuning, loaded anew | 11 MB | 9100 ms | 9000 ms |',
  ])
    expect(page).toContain(row)
  expect(summaryText(report)).toMatch(/f16 adapter by input +450 kB +700 ms +600 ms/)
  expect(report.ratios).toMatchObject({
    adapterVsAuto: 700 / 220,
    adapterVsAutoBesideBase: 5,
    fullVsAuto: 9100 / 400,
  })
})

test('without the base’s own figure nothing is compared with it', () => {
  const report = reportOf([])
  expect(report.opening.rows).toEqual([])
  expect(report.ratios.adapterVsAutoBesideBase).toBeNull()
})
