/**
 * Products, inverses and decompositions of matrices in ordinary memory, row-major.
 *
 * @module
 */

/** Row-major values. */
export interface Matrix<V extends Float32Array | Float64Array = Float64Array> {
  rows: number
  cols: number
  values: V
}

export function matrix(rows: number, cols: number, values?: ArrayLike<number>): Matrix {
  return {
    rows,
    cols,
    values: values === undefined ? new Float64Array(rows * cols) : Float64Array.from(values),
  }
}

export function identity(size: number): Matrix {
  const out = matrix(size, size)
  for (let i = 0; i < size; i++) out.values[i * size + i] = 1
  return out
}

export function transposedMatrix({ rows, cols, values }: Matrix<Float32Array | Float64Array>): Matrix {
  const out = matrix(cols, rows)
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < cols; c++) out.values[c * rows + r] = values[r * cols + c]
  return out
}

/** a · b. */
export function product(
  a: Matrix<Float32Array | Float64Array>,
  b: Matrix<Float32Array | Float64Array>,
): Matrix {
  const out = matrix(a.rows, b.cols)
  for (let r = 0; r < a.rows; r++) {
    const row = out.values.subarray(r * b.cols, (r + 1) * b.cols)
    for (let k = 0; k < a.cols; k++) {
      const factor = a.values[r * a.cols + k]
      if (factor === 0) continue
      for (let c = 0, at = k * b.cols; c < b.cols; c++, at++) row[c] += factor * b.values[at]
    }
  }
  return out
}

/** a + factor · b, of one size. */
export function sum(a: Matrix, b: Matrix, factor = 1): Matrix {
  return { ...a, values: a.values.map((value, i) => value + factor * b.values[i]) }
}

/** The inverse, by elimination with pivots; undefined of a singular matrix. */
export function inverse({ rows: size, values }: Matrix): Matrix | undefined {
  const left = values.slice()
  const out = identity(size)
  const swap = (values: Float64Array, a: number, b: number) => {
    for (let c = 0; c < size; c++) {
      const value = values[a * size + c]
      values[a * size + c] = values[b * size + c]
      values[b * size + c] = value
    }
  }
  for (let k = 0; k < size; k++) {
    let pivot = k
    for (let r = k + 1; r < size; r++)
      if (Math.abs(left[r * size + k]) > Math.abs(left[pivot * size + k])) pivot = r
    const value = left[pivot * size + k]
    if (!(Math.abs(value) > 0)) return undefined
    for (const all of [left, out.values]) {
      if (pivot !== k) swap(all, pivot, k)
      for (let c = 0; c < size; c++) all[k * size + c] /= value
    }
    for (let r = 0; r < size; r++) {
      const factor = left[r * size + k]
      if (r === k || factor === 0) continue
      for (const all of [left, out.values])
        for (let c = 0; c < size; c++) all[r * size + c] -= factor * all[k * size + c]
    }
  }
  return out
}

/**
 * Orthonormal columns that span those of a matrix, by Gram and Schmidt's method with each step done twice. A column that
 * depends on those before it comes as zeros.
 */
export function orthonormalColumns(from: Matrix): Matrix {
  const { rows: count, cols: length, values } = transposedMatrix(from)
  for (let i = 0; i < count; i++) {
    const row = values.subarray(i * length, (i + 1) * length)
    const before = Math.sqrt(dot(row, row))
    for (let pass = 0; pass < 2; pass++) {
      for (let j = 0; j < i; j++) {
        const other = values.subarray(j * length, (j + 1) * length)
        const along = dot(row, other)
        for (let k = 0; k < length; k++) row[k] -= along * other[k]
      }
    }
    const norm = Math.sqrt(dot(row, row))
    if (norm <= 1e-14 * before) row.fill(0)
    else for (let k = 0; k < length; k++) row[k] /= norm
  }
  return transposedMatrix({ rows: count, cols: length, values })
}

export function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i]
  return sum
}

/** Sweeps that one-sided Jacobi rotations may take; ten are enough for any matrix in use. */
const MAX_SWEEPS = 40

/**
 * The part of a matrix that its `rank` largest singular values make, as left · right, by one-sided Jacobi rotations.
 * @returns left [rows, rank], right [rank, cols]
 */
export function topSingular(of: Matrix, rank: number): { left: Matrix; right: Matrix } {
  const isWide = of.cols > of.rows
  // Rows of `work` are rotated until they are orthogonal: they become the singular vectors times their values.
  const work = isWide ? { ...of, values: of.values.slice() } : transposedMatrix(of)
  const { rows: count, cols: length, values } = work
  const row = (i: number) => values.subarray(i * length, (i + 1) * length)
  const basis = identity(count)
  for (let sweep = 0; sweep < MAX_SWEEPS; sweep++) {
    let rotated = false
    for (let p = 0; p < count; p++) {
      for (let q = p + 1; q < count; q++) {
        const [x, y] = [row(p), row(q)]
        const [xx, yy, xy] = [dot(x, x), dot(y, y), dot(x, y)]
        if (Math.abs(xy) <= 1e-15 * Math.sqrt(xx * yy)) continue
        rotated = true
        const zeta = (yy - xx) / (2 * xy)
        const t = Math.sign(zeta || 1) / (Math.abs(zeta) + Math.sqrt(1 + zeta * zeta))
        const c = 1 / Math.sqrt(1 + t * t)
        rotate(x, y, c, c * t)
        rotate(
          basis.values.subarray(p * count, (p + 1) * count),
          basis.values.subarray(q * count, (q + 1) * count),
          c,
          c * t,
        )
      }
    }
    if (!rotated) break
  }
  const order = Array.from({ length: count }, (_, i) => i)
    .sort((a, b) => dot(row(b), row(b)) - dot(row(a), row(a)))
    .slice(0, rank)
  // work = basis · (what it was), so that what it was is basisᵀ · work.
  const vectors = matrix(order.length, count)
  const scaled = matrix(order.length, length)
  for (const [i, from] of order.entries()) {
    vectors.values.set(basis.values.subarray(from * count, (from + 1) * count), i * count)
    scaled.values.set(row(from), i * length)
  }
  return isWide
    ? { left: transposedMatrix(vectors), right: scaled }
    : { left: transposedMatrix(scaled), right: vectors }
}

function rotate(x: Float64Array, y: Float64Array, c: number, s: number): void {
  for (let i = 0; i < x.length; i++) {
    const [a, b] = [x[i], y[i]]
    x[i] = c * a - s * b
    y[i] = s * a + c * b
  }
}
