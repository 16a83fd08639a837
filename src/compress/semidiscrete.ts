/**
 * The semidiscrete decomposition of Kolda & O'Leary: a matrix as Σ d·x·yᵀ with the entries of x and y in {−1, 0, 1}. It is
 * found for a product of two factors without forming the product, so that its cost grows with rows + columns, or for a
 * matrix that is written out.
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

/** A matrix that is written out, row-major. */
export interface Matrix {
  rows: number
  cols: number
  values: Float32Array
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
/** Of a matrix that is written out, where each is two passes over it. */
const MATRIX_POWER_STEPS = 8
/** Keeps the least squares of terms that are nearly the same solvable. */
const RIDGE = 1e-7

/** At most `count` terms of a product; fewer where they are the whole of it. */
export function decompose(product: Product, count: number): Decomposition {
  const { rows, cols, rank } = product
  // The residual is left · right − X·D·Y, that is L·S·R with L = [left, X], R = [right; Y] and S = diag(1, …, −d).
  const L = columnsOf(product.left, rows, rank)
  const R = rowsOf(product.right, rank, cols)
  const gramL = grams(L)
  const gramR = grams(R)
  const signs: number[] = new Array<number>(rank).fill(1)
  const residual: Residual = {
    rows,
    cols,
    times: (vector) =>
      combine(
        L,
        R.map((row, k) => signs[k] * dot(row, vector)),
        rows,
      ),
    timesTransposed: (vector) =>
      combine(
        R,
        L.map((column, k) => signs[k] * dot(column, vector)),
        cols,
      ),
  }
  let squares = 0
  for (let i = 0; i < rank; i++) for (let j = 0; j < rank; j++) squares += gramL[i][j] * gramR[i][j]
  return found(residual, squares, count, {
    start: () => combine(R, leading(gramL, gramR, signs), cols),
    add(x, y) {
      extend(L, gramL, x)
      extend(R, gramR, y)
      let product = 0
      const last = gramL.length - 1
      for (let k = 0; k < rank; k++) product += gramL[last][k] * gramR[last][k]
      return product
    },
    settle(scales) {
      signs.length = rank
      for (const scale of scales) signs.push(-scale)
    },
  })
}

/** At most `count` terms of a matrix. Work grows with its weights, some forty products of it with a vector a term. */
export function decomposeMatrix({ rows, cols, values }: Matrix, count: number): Decomposition {
  const terms: { x: Float64Array; y: Float64Array; scale: number }[] = []
  const times = (vector: Float64Array) => {
    const out = matrixTimes(values, rows, vector)
    for (const { x, y, scale } of terms) addTo(out, x, -scale * dot(y, vector))
    return out
  }
  const timesTransposed = (vector: Float64Array) => {
    const out = matrixTransposedTimes(values, cols, vector)
    for (const { x, y, scale } of terms) addTo(out, y, -scale * dot(x, vector))
    return out
  }
  let squares = 0
  for (const value of values) squares += value * value
  return found({ rows, cols, times, timesTransposed }, squares, count, {
    start() {
      let vector: Float64Array<ArrayBufferLike> = strongestRow(values, rows, cols)
      for (let step = 0; step < MATRIX_POWER_STEPS; step++) {
        const next = timesTransposed(times(vector))
        const most = next.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0)
        if (most === 0) break
        vector = next.map((value) => value / most)
      }
      return vector
    },
    add(x, y) {
      const product = dot(x, matrixTimes(values, rows, y))
      terms.push({ x, y, scale: 0 })
      return product
    },
    settle(scales) {
      for (const [t, scale] of scales.entries()) terms[t].scale = scale
    },
  })
}

/** What is particular to how a matrix is given. */
interface Given {
  /** A vector over the columns near the leading right singular one of the residual. */
  start(): Float64Array
  /** Takes a term up. @returns xᵀ · matrix · y */
  add(x: Float64Array, y: Float64Array): number
  /** The scales of all terms so far, which the residual is without from now on. */
  settle(scales: Float64Array): void
}

/** Terms one after the other, each on what those before it leave, and after each of them all scales together. */
function found(residual: Residual, squares: number, count: number, given: Given): Decomposition {
  const xs: Int8Array[] = []
  const ys: Int8Array[] = []
  const steps: Decomposition['steps'] = []
  const system = new LeastSquares()
  while (xs.length < count && squares > 0 && (steps.at(-1)?.energy ?? 0) < ALL) {
    const term = bestTerm(residual, given.start())
    if (term === undefined) break
    const product = given.add(Float64Array.from(term.x), Float64Array.from(term.y))
    const scales = system.with(term.x, term.y, product)
    const energy = scales.reduce((sum, scale, t) => sum + scale * system.products[t], 0) / squares
    // What is left is rounding.
    if (!(energy > 0 && scales.every(Number.isFinite))) break
    xs.push(term.x)
    ys.push(term.y)
    steps.push({ scales, energy })
    given.settle(scales)
  }
  return { x: joined(xs), y: joined(ys), steps, squares }
}

function joined(vectors: readonly Int8Array[]): Int8Array<ArrayBuffer> {
  const length = vectors[0]?.length ?? 0
  const all = new Int8Array(vectors.length * length)
  for (const [t, vector] of vectors.entries()) all.set(vector, t * length)
  return all
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

/** What the terms so far leave of a matrix. */
interface Residual {
  rows: number
  cols: number
  /** Times a vector over the columns. */
  times(vector: Float64Array): Float64Array
  /** Transposed, times a vector over the rows. */
  timesTransposed(vector: Float64Array): Float64Array
}

/** x and y that fit the residual best, in turns from `start` over the columns; undefined where nothing is left. */
function bestTerm(
  residual: Residual,
  start: Float64Array,
): { x: Int8Array<ArrayBuffer>; y: Int8Array<ArrayBuffer> } | undefined {
  let target = start
  let x = new Int8Array(residual.rows)
  let y = new Int8Array(residual.cols)
  for (let round = 0; round < ROUNDS; round++) {
    const nextX = bestSigns(residual.times(target))
    const nextY = bestSigns(residual.timesTransposed(Float64Array.from(nextX)))
    const isSame = same(nextX, x) && same(nextY, y)
    x = nextX
    y = nextY
    if (isSame) break
    target = Float64Array.from(y)
  }
  return x.some((entry) => entry !== 0) && y.some((entry) => entry !== 0) ? { x, y } : undefined
}

function addTo(sum: Float64Array, vector: Float64Array, weight: number): void {
  if (weight !== 0) for (let i = 0; i < sum.length; i++) sum[i] += weight * vector[i]
}

function matrixTimes(values: Float32Array, rows: number, vector: Float64Array): Float64Array {
  const out = new Float64Array(rows)
  const cols = vector.length
  for (let row = 0, at = 0; row < rows; row++) {
    let sum = 0
    for (let col = 0; col < cols; col++, at++) sum += values[at] * vector[col]
    out[row] = sum
  }
  return out
}

function matrixTransposedTimes(values: Float32Array, cols: number, vector: Float64Array): Float64Array {
  const out = new Float64Array(cols)
  for (let row = 0, at = 0; row < vector.length; row++, at += cols) {
    const weight = vector[row]
    if (weight !== 0) for (let col = 0; col < cols; col++) out[col] += weight * values[at + col]
  }
  return out
}

/** The row with the largest norm, which the leading vector is hardly orthogonal to. */
function strongestRow(values: Float32Array, rows: number, cols: number): Float64Array {
  let [strongest, most] = [0, -1]
  for (let row = 0; row < rows; row++) {
    let sum = 0
    for (let at = row * cols; at < (row + 1) * cols; at++) sum += values[at] * values[at]
    if (sum > most) [strongest, most] = [row, sum]
  }
  return Float64Array.from(values.subarray(strongest * cols, (strongest + 1) * cols))
}

function combine(
  vectors: readonly Float64Array[],
  weights: ArrayLike<number>,
  length: number,
): Float64Array<ArrayBuffer> {
  const sum = new Float64Array(length)
  for (const [k, vector] of vectors.entries()) addTo(sum, vector, weights[k])
  return sum
}

function same(a: Int8Array, b: Int8Array): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}

/** The vector of −1, 0, 1 with the largest cosine to `values`: the signs of the largest ones; of equal ones all or none. */
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

/** The scales of all terms together. */
class LeastSquares {
  /** xᵀ · matrix · y of each term. */
  readonly products: number[] = []
  readonly #vectors: { x: Float64Array; y: Float64Array }[] = []
  /** (xᵢ · xⱼ)(yᵢ · yⱼ) */
  readonly #gram: number[][] = []

  /** The scales with one term more. */
  with(signsX: Int8Array, signsY: Int8Array, product: number): Float64Array {
    const [x, y] = [Float64Array.from(signsX), Float64Array.from(signsY)]
    this.#vectors.push({ x, y })
    this.products.push(product)
    const own = this.#vectors.map((other) => dot(other.x, x) * dot(other.y, y))
    for (const [i, row] of this.#gram.entries()) row.push(own[i])
    this.#gram.push(own)
    const mean = this.#gram.reduce((sum, row, i) => sum + row[i], 0) / this.#gram.length
    const ridged = this.#gram.map((row, i) => row.map((value, j) => (i === j ? value + RIDGE * mean : value)))
    return solve(ridged, this.products)
  }
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
