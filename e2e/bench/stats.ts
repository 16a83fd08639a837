/**
 * Statistics of repeated measurements. No distribution is assumed: times have long tails on one side.
 *
 * @module
 */

export interface Summary {
  median: number
  /** Interquartile range over the median; 0 for a single figure. */
  spread: number
  n: number
}

/** Above this spread a median says little. */
export const UNRELIABLE_SPREAD = 0.25
/** A time from fewer samples than this is not to be relied on. */
export const MIN_SAMPLES = 3

/** @param q - 0 for the least, 1 for the largest; between samples it is interpolated */
export function quantile(samples: readonly number[], q: number): number {
  const sorted = [...samples].sort((a, b) => a - b)
  const at = (sorted.length - 1) * q
  const low = Math.floor(at)
  const high = Math.ceil(at)
  return sorted[low] + (sorted[high] - sorted[low]) * (at - low)
}

export function median(samples: readonly number[]): number {
  return quantile(samples, 0.5)
}

export function summary(samples: readonly number[]): Summary {
  const middle = median(samples)
  const range = quantile(samples, 0.75) - quantile(samples, 0.25)
  return { median: middle, spread: range === 0 ? 0 : range / Math.abs(middle), n: samples.length }
}

/**
 * How far apart things are that took turns: of each round the shares that its samples have of their mean, which a
 * machine that was slow for a while does not change, and of these the medians.
 *
 * @param cases - samples of each, in the order of the rounds
 * @returns largest over smallest, less 1; 0 for things that cost the same
 */
export function spreadOf(cases: readonly (readonly number[])[]): number {
  const rounds = Math.min(...cases.map(({ length }) => length))
  const shares = cases.map((samples) =>
    median(
      samples.slice(0, rounds).map((sample, round) => {
        const sum = cases.reduce((total, other) => total + other[round], 0)
        return (sample * cases.length) / sum
      }),
    ),
  )
  return Math.max(...shares) / Math.min(...shares) - 1
}

export interface LinearFit {
  slope: number
  intercept: number
  /** Share of the variance that the line explains. */
  r2: number
}

/** Least squares. @throws {RangeError} for fewer than 2 different x */
export function linearFit(xs: readonly number[], ys: readonly number[]): LinearFit {
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length
  const [mx, my] = [mean(xs), mean(ys)]
  const sxx = xs.reduce((sum, x) => sum + (x - mx) ** 2, 0)
  if (!(sxx > 0)) throw new RangeError('Cannot fit a line: it needs two different x')
  const sxy = xs.reduce((sum, x, i) => sum + (x - mx) * (ys[i] - my), 0)
  const slope = sxy / sxx
  const intercept = my - slope * mx
  const left = ys.reduce((sum, y, i) => sum + (y - intercept - slope * xs[i]) ** 2, 0)
  const all = ys.reduce((sum, y) => sum + (y - my) ** 2, 0)
  return { slope, intercept, r2: all === 0 ? 1 : 1 - left / all }
}
