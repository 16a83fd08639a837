/**
 * LoRA pairs whose rank is larger than a side of their weight, as peft allows (r = 8 on a head of two classes): the same
 * product has factors of the smaller rank, and each rank costs a pass over the weight wherever the expert is applied.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { tilingOf } from '../format/tiling.ts'
import { memorySource } from '../source/memory.ts'
import { readFloats, type StoredTensor } from './safetensors.ts'

/** A [r, in, …] and B [out, r, …]. */
export interface StoredPair {
  a: StoredTensor
  b: StoredTensor
}

/** Multiplications that a reduction may take: some seconds, and more than any adapter of a real model. */
const MAX_WORK = 2 ** 35

/** Both tensors of a pair are read, one after the other: the second finds what the first one made. */
const reduced = new WeakMap<StoredTensor, Promise<StoredPair>>()

/**
 * The pair with its rank reduced to the smaller side of B·A, by an LQ decomposition in double precision: the product is
 * the same but for the rounding of the new factors to f32. A pair whose rank is no larger is returned as it is.
 * @throws {TritswapError} `limit` for a pair that would take minutes
 */
export function reducedPair(pair: StoredPair): Promise<StoredPair> {
  const { a, b } = pair
  const [rank, out, inputs] = [a.shape[0], b.shape[0], tilingOf(a.shape).cols]
  const side = Math.min(out, inputs)
  if (rank <= side) return Promise.resolve(pair)
  const work = side * rank * (2 * side + Math.max(out, inputs))
  if (work > MAX_WORK) {
    throw new TritswapError(
      'limit',
      `Cannot compress ${a.name}: its rank of ${rank} is larger than the ${out} × ${inputs} of its weight, and reducing it is too much work; merge the adapter into the model, and compress the result as a fine-tuning`,
      { fields: { tensor: a.name, rank, work, limit: MAX_WORK } },
    )
  }
  const known = reduced.get(a) ?? reduce(pair, rank, out, inputs)
  reduced.set(a, known)
  return known
}

async function reduce({ a, b }: StoredPair, rank: number, out: number, inputs: number): Promise<StoredPair> {
  const [valuesA, valuesB] = [await readFloats(a), await readFloats(b)]
  const rowsOfA = rowsOf(valuesA, rank, inputs)
  const side = Math.min(out, inputs)
  const shapeA = [side, ...a.shape.slice(1)]
  const shapeB = [out, side, ...b.shape.slice(2)]
  if (out <= inputs) {
    // B = L·Q, so that B·A = L·(Q·A).
    const { lower, basis } = decompose(rowsOf(valuesB, out, rank))
    return { a: stored(a, shapeA, combined(basis, rowsOfA)), b: stored(b, shapeB, lower) }
  }
  // Aᵀ = L·Q, so that B·A = (B·Qᵀ)·Lᵀ.
  const { lower, basis } = decompose(transposed(rowsOfA))
  const columnsOfB = transposed(rowsOf(valuesB, out, rank))
  return {
    a: stored(a, shapeA, transposed(lower)),
    b: stored(b, shapeB, transposed(combined(basis, columnsOfB))),
  }
}

type Rows = Float64Array[]

/**
 * Rows as lower · basis, the rows of the basis orthonormal: Gram and Schmidt's method, each step done twice, which keeps
 * it as exact as reflections. A row that depends on those before it leaves a basis row of zeros.
 */
function decompose(rows: Rows): { lower: Rows; basis: Rows } {
  const lower = rows.map(() => new Float64Array(rows.length))
  const basis: Rows = []
  for (const [i, row] of rows.entries()) {
    const rest = row.slice()
    for (let pass = 0; pass < 2; pass++) {
      for (const [j, direction] of basis.entries()) {
        const along = dot(rest, direction)
        lower[i][j] += along
        for (let k = 0; k < rest.length; k++) rest[k] -= along * direction[k]
      }
    }
    const length = Math.sqrt(dot(rest, rest))
    const isDependent = length <= 1e-14 * Math.sqrt(dot(row, row))
    lower[i][i] = isDependent ? 0 : length
    basis.push(isDependent ? new Float64Array(row.length) : rest.map((value) => value / length))
  }
  return { lower, basis }
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i]
  return sum
}

/** Sums of `rows`, one for each row of `factors`. */
function combined(factors: Rows, rows: Rows): Rows {
  return factors.map((row) => {
    const sum = new Float64Array(rows[0].length)
    for (const [k, factor] of row.entries()) {
      if (factor === 0) continue
      const other = rows[k]
      for (let i = 0; i < sum.length; i++) sum[i] += factor * other[i]
    }
    return sum
  })
}

function rowsOf(values: Float32Array, rows: number, cols: number): Rows {
  return Array.from({ length: rows }, (_, r) => Float64Array.from(values.subarray(r * cols, (r + 1) * cols)))
}

function transposed(rows: Rows): Rows {
  return Array.from({ length: rows[0].length }, (_, c) => Float64Array.from(rows, (row) => row[c]))
}

/** A factor of another shape under the name of the old one. */
function stored({ name, source }: StoredTensor, shape: readonly number[], rows: Rows): StoredTensor {
  const values = new Float32Array(rows.length * rows[0].length)
  for (const [r, row] of rows.entries()) values.set(row, r * row.length)
  const bytes = values.byteLength
  return {
    name,
    dtype: 'F32',
    shape,
    weights: values.length,
    source: memorySource(new Uint8Array(values.buffer), source.name),
    offset: 0,
    bytes,
  }
}
