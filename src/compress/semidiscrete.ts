/**
 * The semidiscrete decomposition of Kolda & O'Leary: a matrix as Σ d·x·yᵀ with the entries of x and y in {−1, 0, 1}. It is
 * found for a product of two factors without forming the product, so that its cost grows with rows + columns.
 *
 * All arithmetic is in doubles with sums in a fixed order and no function but the square root, so a matrix has the same
 * terms on every machine.
 *
 * @module
 */

/** left · right, row-major: rows × rank and rank × cols. */
export interface Product {
  rows: number
  cols: number
  rank: number
  left: Float64Array
  right: Float64Array
}

/** The product of the transposed factors in the other order. */
export function transpose({ rows, cols, rank, left, right }: Product): Product {
  const flip = (values: Float64Array, from: number, to: number) =>
    Float64Array.from(values, (_, i) => values[(i % from) * to + Math.floor(i / from)])
  return { rows: cols, cols: rows, rank, left: flip(right, rank, cols), right: flip(left, rows, rank) }
}

/** Terms of one matrix, in the order in which they were found; any first few of them are a decomposition too. */
export interface Decomposition {
  /** Vectors over the rows and over the columns, term by term. */
  x: Int8Array
  y: Int8Array
  /** Of the first 1, 2, … terms: their scales by least squares, and the share of the matrix' energy that they have. */
  steps: { scales: Float64Array; energy: number }[]
  /** Sum of the matrix' squares. */
  squares: number
}

/** Rounds of x for y and y for x. They end sooner where nothing changes any more. */
const ROUNDS = 8
/** Steps of the power iteration for the leading singular vector, which is only the start. */
const POWER_STEPS = 64
/** The share of the energy from which on what is left is rounding. */
const ALL = 1 - 1e-6
/** Keeps the least squares of terms that are nearly the same solvable. */
const RIDGE = 1e-7

/** At most `count` terms; fewer where they are the whole matrix. */
export function decompose(product: Product, count: number): Decomposition {
  const { rows, cols, rank } = product
  // The residual is left · right − X·D·Y, that is L·S·R with L = [left, X], R = [right; Y] and S = diag(1, …, −d).
  const L = columnsOf(product.left, rows, rank)
  const R = rowsOf(product.right, rank, cols)
  const gramL = grams(L)
  const gramR = grams(R)
  const signs: number[] = new Array<number>(rank).fill(1)
  let squares = 0
  for (let i = 0; i < rank; i++) for (let j = 0; j < rank; j++) squares += gramL[i][j] * gramR[i][j]
  const found: { x: Int8Array; y: Int8Array }[] = []
  const steps: Decomposition['steps'] = []
  while (found.length < count && squares > 0 && (steps.at(-1)?.energy ?? 0) < ALL) {
    const term = bestTerm(L, R, signs, leading(gramL, gramR, signs), rows, cols)
    if (term === undefined) break
    found.push(term)
    extend(L, gramL, Float64Array.from(term.x))
    extend(R, gramR, Float64Array.from(term.y))
    const step = leastSquares(gramL, gramR, rank, squares)
    // What is left is rounding.
    if (step === undefined) {
      found.pop()
      break
    }
    steps.push(step)
    signs.length = rank
    for (const scale of step.scales) signs.push(-scale)
  }
  const join = (vectors: Int8Array[], length: number) => {
    const all = new Int8Array(vectors.length * length)
    for (const [t, vector] of vectors.entries()) all.set(vector, t * length)
    return all
  }
  return {
    x: join(
      found.map(({ x }) => x),
      rows,
    ),
    y: join(
      found.map(({ y }) => y),
      cols,
    ),
    steps,
    squares,
  }
}

/** The columns of a row-major matrix as vectors. */
function columnsOf(values: Float64Array, rows: number, rank: number): Float64Array[] {
  return Array.from({ length: rank }, (_, k) =>
    Float64Array.from({ length: rows }, (_, row) => values[row * rank + k]),
  )
}

/** The rows of one. */
function rowsOf(values: Float64Array, rank: number, cols: number): Float64Array[] {
  return Array.from({ length: rank }, (_, k) => values.slice(k * cols, (k + 1) * cols))
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i]
  return sum
}

function grams(vectors: readonly Float64Array[]): number[][] {
  const gram = vectors.map(() => new Array<number>(vectors.length).fill(0))
  for (let i = 0; i < vectors.length; i++)
    for (let j = 0; j <= i; j++) gram[i][j] = gram[j][i] = dot(vectors[i], vectors[j])
  return gram
}

function extend(vectors: Float64Array[], gram: number[][], vector: Float64Array): void {
  vectors.push(vector)
  const products = vectors.map((other) => dot(other, vector))
  for (const [i, row] of gram.entries()) row.push(products[i])
  gram.push(products)
}

/** Weights of the rows of R that make the leading right singular vector of L·S·R. */
function leading(
  gramL: readonly number[][],
  gramR: readonly number[][],
  signs: readonly number[],
): Float64Array {
  const size = signs.length
  const multiply = (matrix: readonly number[][], vector: Float64Array) => {
    const out = new Float64Array(size)
    for (let i = 0; i < size; i++) {
      let sum = 0
      for (let j = 0; j < size; j++) sum += matrix[i][j] * vector[j]
      out[i] = sum
    }
    return out
  }
  // The strongest component alone is a start that the leading vector is hardly orthogonal to.
  let start = 0
  const strength = (i: number) => gramL[i][i] * gramR[i][i] * signs[i] * signs[i]
  for (let i = 1; i < size; i++) if (strength(i) > strength(start)) start = i
  let weights = new Float64Array(size)
  weights[start] = 1
  for (let step = 0; step < POWER_STEPS; step++) {
    const next = multiply(
      gramL,
      multiply(gramR, weights).map((value, i) => value * signs[i]),
    ).map((value, i) => value * signs[i])
    let most = 0
    for (const value of next) most = Math.max(most, Math.abs(value))
    if (most === 0) break
    weights = next.map((value) => value / most)
  }
  return weights
}

/** x and y that fit the residual best, in turns; undefined where nothing is left. */
function bestTerm(
  L: readonly Float64Array[],
  R: readonly Float64Array[],
  signs: readonly number[],
  start: Float64Array,
  rows: number,
  cols: number,
): { x: Int8Array; y: Int8Array } | undefined {
  let target = combine(R, start, cols)
  let x = new Int8Array(rows)
  let y = new Int8Array(cols)
  for (let round = 0; round < ROUNDS; round++) {
    const nextX = bestSigns(
      combine(
        L,
        R.map((row, k) => signs[k] * dot(row, target)),
        rows,
      ),
    )
    const ownX = Float64Array.from(nextX)
    const nextY = bestSigns(
      combine(
        R,
        L.map((column, k) => signs[k] * dot(column, ownX)),
        cols,
      ),
    )
    const isSame = same(nextX, x) && same(nextY, y)
    x = nextX
    y = nextY
    if (isSame) break
    target = Float64Array.from(y)
  }
  return x.some((entry) => entry !== 0) && y.some((entry) => entry !== 0) ? { x, y } : undefined
}

function combine(
  vectors: readonly Float64Array[],
  weights: ArrayLike<number>,
  length: number,
): Float64Array<ArrayBuffer> {
  const sum = new Float64Array(length)
  for (const [k, vector] of vectors.entries()) {
    const weight = weights[k]
    if (weight !== 0) for (let i = 0; i < length; i++) sum[i] += weight * vector[i]
  }
  return sum
}

function same(a: Int8Array, b: Int8Array): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}

/** The vector of −1, 0, 1 with the largest cosine to `values`: the signs of the largest so many; all that are equal or none. */
function bestSigns(values: Float64Array): Int8Array<ArrayBuffer> {
  const sizes = values.map(Math.abs).sort()
  let sum = 0
  let best = 0
  let threshold = Number.POSITIVE_INFINITY
  for (let count = 1; count <= sizes.length; count++) {
    const size = sizes[sizes.length - count]
    sum += size
    if (size === 0) break
    if (count < sizes.length && sizes[sizes.length - count - 1] === size) continue
    const fit = (sum * sum) / count
    if (fit > best) {
      best = fit
      threshold = size
    }
  }
  return Int8Array.from(values, (value) => (Math.abs(value) < threshold ? 0 : Math.sign(value)))
}

/** Scales of all terms together, and the energy that they have; undefined where they are not independent. */
function leastSquares(
  gramL: readonly number[][],
  gramR: readonly number[][],
  rank: number,
  squares: number,
): { scales: Float64Array; energy: number } | undefined {
  const count = gramL.length - rank
  const matrix = Array.from({ length: count }, (_, s) =>
    Array.from({ length: count }, (_, t) => gramL[rank + s][rank + t] * gramR[rank + s][rank + t]),
  )
  const right = Array.from({ length: count }, (_, t) => {
    let sum = 0
    for (let k = 0; k < rank; k++) sum += gramL[rank + t][k] * gramR[rank + t][k]
    return sum
  })
  const mean = matrix.reduce((sum, row, i) => sum + row[i], 0) / count
  for (let i = 0; i < count; i++) matrix[i][i] += RIDGE * mean
  const scales = solve(matrix, right)
  const energy = scales.reduce((sum, scale, t) => sum + scale * right[t], 0) / squares
  return energy > 0 && scales.every(Number.isFinite) ? { scales, energy } : undefined
}

/** Solves a positive definite system by elimination. */
function solve(matrix: number[][], right: readonly number[]): Float64Array {
  const size = right.length
  const values = Float64Array.from(right)
  const rows = matrix.map((row) => row.slice())
  for (let i = 0; i < size; i++) {
    for (let j = i + 1; j < size; j++) {
      const factor = rows[j][i] / rows[i][i]
      for (let k = i; k < size; k++) rows[j][k] -= factor * rows[i][k]
      values[j] -= factor * values[i]
    }
  }
  for (let i = size - 1; i >= 0; i--) {
    for (let k = i + 1; k < size; k++) values[i] -= rows[i][k] * values[k]
    values[i] /= rows[i][i]
  }
  return values
}
