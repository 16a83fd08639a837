import { TritswapError } from '../errors.ts'

/** Values of a tensor in row-major order. */
export interface Values {
  data: Float32Array
  dims: readonly number[]
}

/** From the smallest to the largest value; 0 of none. */
export function rangeOf(values: Float32Array): number {
  let [min, max] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]
  for (const value of values) {
    if (value < min) min = value
    if (value > max) max = value
  }
  return max < min ? 0 : max - min
}

/**
 * Largest difference of outputs from the expected ones, over the range of those (over 1 where they are all the same);
 * infinite where either is not a number. Expected outputs of a language model may be of the last positions alone.
 * @throws {TritswapError} `input` for outputs of another size
 */
export function relativeDifference(found: Values, expected: Values): number {
  const { data } =
    found.data.length === expected.data.length ? found : lastPositions(found, positionsOf(expected))
  if (data.length !== expected.data.length) {
    throw new TritswapError(
      'input',
      `Cannot compare outputs: expected [${expected.dims}], found [${found.dims}]`,
      { fields: { expected: expected.dims, found: found.dims } },
    )
  }
  let most = 0
  for (const [i, value] of expected.data.entries()) {
    const off = Math.abs(value - data[i])
    most = Number.isNaN(off) ? Number.POSITIVE_INFINITY : Math.max(most, off)
  }
  return most / (rangeOf(expected.data) || 1)
}

function positionsOf({ dims }: Values): number {
  return dims.length === 3 ? dims[1] : 1
}

/** Outputs of [batch, positions, size] at the last positions. */
export function lastPositions(values: Values, count = 1): Values {
  if (values.dims.length !== 3 || values.dims[1] < count) return values
  const { data } = values
  const [batch, positions, size] = values.dims
  const last = new Float32Array(batch * count * size)
  for (let b = 0; b < batch; b++) {
    const at = (b * positions + positions - count) * size
    last.set(data.subarray(at, at + count * size), b * count * size)
  }
  return { data: last, dims: [batch, count, size] }
}
