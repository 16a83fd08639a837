import { expect, test } from 'vitest'
import { compareCase, compareReports } from '../../e2e/bench/compare.ts'
import type { BenchCase, BenchReport } from '../../e2e/bench/results.ts'

const one = (median: number, spread = 0.05, unit: BenchCase['unit'] = 'ms', name = 'a case'): BenchCase => ({
  name,
  group: 'a group',
  unit,
  median,
  spread,
  n: 10,
  unreliable: false,
})

const report = (cases: BenchCase[], software = true, vendor = 'google') =>
  ({
    adapter: { software, vendor, description: '' },
    machine: { cpu: 'some cpu' },
    cases,
  }) as unknown as BenchReport

test('a change counts when it is larger than both spreads together', () => {
  expect(compareCase(one(100), one(80)).verdict).toBe('better')
  expect(compareCase(one(100), one(120)).verdict).toBe('worse')
  expect(compareCase(one(100), one(109)).verdict).toBe('within noise')
  expect(compareCase(one(100, 0.3), one(80, 0.3)).verdict).toBe('within noise')
  expect(compareCase(one(100, 0), one(102, 0)).verdict).toBe('within noise')
})

test('more tokens are better, more milliseconds and bytes are not; bytes have no noise', () => {
  expect(compareCase(one(10, 0.01, 'tokens/s'), one(12, 0.01, 'tokens/s')).verdict).toBe('better')
  expect(compareCase(one(1000, 0, 'bytes'), one(1001, 0, 'bytes')).verdict).toBe('worse')
  expect(compareCase(one(0, 0, 'count'), one(0, 0, 'count')).verdict).toBe('within noise')
  expect(compareCase(one(0, 0, 'count'), one(2, 0, 'count')).verdict).toBe('worse')
})

test('what only one run has is said, and the sum at the end', () => {
  const text = compareReports(
    report([one(100), one(3, 0, 'ms', 'gone')]),
    report([one(50), one(3, 0, 'ms', 'new')]),
  )
  expect(text).toMatch(/^better +a case +100 ms → 50 ms {2}× 0\.5$/m)
  expect(text).toContain('only in the first: gone')
  expect(text).toContain('only in the second: new')
  expect(text).toContain('1 better, 0 worse, 0 within noise')
})

test('a GPU is not compared with a software adapter, and other machines are named', () => {
  expect(() => compareReports(report([]), report([], false))).toThrow(
    'Cannot compare a run on a software adapter with one on a GPU',
  )
  expect(compareReports(report([], false, 'nvidia'), report([], false, 'amd'))).toContain(
    'Not the same machine',
  )
})
