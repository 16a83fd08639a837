import { expect, test } from 'vitest'
import { linearFit, median, quantile, spreadOf, summary } from '../../e2e/bench/stats.ts'

test('quantiles are interpolated, in any order of samples', () => {
  expect(median([5, 1, 3])).toBe(3)
  expect(median([4, 1, 2, 3])).toBe(2.5)
  expect(quantile([10, 0, 20], 0.25)).toBe(5)
})

test('spread is the interquartile range over the median, and one sample has none', () => {
  expect(summary([1, 2, 3, 4, 5])).toEqual({ median: 3, spread: 2 / 3, n: 5 })
  expect(summary([7])).toEqual({ median: 7, spread: 0, n: 1 })
  expect(summary([0, 0])).toEqual({ median: 0, spread: 0, n: 2 })
})

test('a line is found, and how well it explains', () => {
  expect(linearFit([1, 2, 3], [5, 7, 9])).toEqual({ slope: 2, intercept: 3, r2: 1 })
  const bent = linearFit([1, 2, 3, 4], [1, 4, 9, 16])
  expect(bent.slope).toBeCloseTo(5)
  expect(bent.r2).toBeCloseTo(1 - 4 / 129)
  expect(linearFit([1, 2, 3], [4, 4, 4]).r2).toBe(1)
  expect(() => linearFit([2, 2], [1, 3])).toThrow(RangeError)
})

test('what took turns is compared round by round', () => {
  // The second round was slow for all; the third thing costs a tenth more than the others.
  expect(
    spreadOf([
      [10, 30, 10],
      [10, 30, 10],
      [11, 33, 11],
    ]),
  ).toBeCloseTo(0.1)
  expect(spreadOf([[5], [5, 7]])).toBe(0)
})
