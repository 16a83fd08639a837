/**
 * Methods that turn a weight: OFT, BOFT, HRA, RoAd. What they add to it depends on what it is.
 *
 * @module
 */
import { TritswapError } from '../../errors.ts'
import {
  dot,
  identity,
  inverse,
  type Matrix,
  matrix,
  orthonormalColumns,
  product,
  sum,
  transposedMatrix,
} from '../matrices.ts'
import { type AdapterKind, isOn, type Module, valuesOf } from './kind.ts'

/** OFT: blocks of the inputs are rotated, by Cayley's transform of skew-symmetric matrices or by Neumann's series of it. */
export const oft: AdapterKind = {
  label: 'OFT',
  parts: ['oft_R', 'oft_embedding_R'],
  fields: [
    ...[
      'r',
      'oft_block_size',
      'module_dropout',
      'init_weights',
      'coft',
      'eps',
      'block_share',
      'use_cayley_neumann',
    ],
    ...['num_cayley_neumann_terms', 'fan_in_fan_out'],
  ],
  change(module) {
    const { rows, cols, filter } = module
    if (filter !== undefined && filter[1] * filter[2] > 1) {
      throw new TritswapError(
        'unsupported',
        `Cannot compress what is trained for ${module.path}: OFT rotates the patches that a ${filter[1]} × ${filter[2]} convolution sees and adds them up where they overlap, which no weights do; train it on linear layers, or leave it out with --exclude`,
        { fields: { module: module.path, kernel: filter.slice(1) } },
      )
    }
    const tensor = module.shaped(module.has('oft_R') ? 'oft_R' : 'oft_embedding_R', -1, -1)
    const [count, entries] = tensor.shape
    const size = (1 + Math.sqrt(1 + 8 * entries)) / 2
    const isShared = isOn(module.config.block_share)
    const blocks = cols / size
    if (!Number.isInteger(size) || !Number.isInteger(blocks) || count !== (isShared ? 1 : blocks)) {
      const found = `${count} of ${entries} entries`
      throw misfit(module, 'blocks of rotations that fill its inputs', found)
    }
    const values = async () => {
      const skew = skewMatrices(await valuesOf(tensor), size)
      if (isOn(module.config.coft)) constrain(skew, module.number('eps'))
      const rotations = skew.map((q) => rotationOf(q, module))
      const weight = await module.weight()
      const out = matrix(rows, cols)
      for (let block = 0; block < blocks; block++) {
        // y = (x · R) · Wᵀ, so that the weight is W · Rᵀ.
        const turned = transposedMatrix(rotations[isShared ? 0 : block])
        addBlock(out, weight, turned, block * size)
      }
      return sum(out, weight, -1)
    }
    return { weight: { kind: 'delta', values } }
  },
}

/** out[:, from…] += weight[:, from…] · factor. */
function addBlock(out: Matrix, weight: Matrix, factor: Matrix, from: number): void {
  const size = factor.rows
  for (let r = 0; r < weight.rows; r++)
    for (let k = 0; k < size; k++) {
      const value = weight.values[r * weight.cols + from + k]
      for (let c = 0; c < size; c++)
        out.values[r * out.cols + from + c] += value * factor.values[k * size + c]
    }
}

/** Skew-symmetric matrices by the entries above their diagonals, row by row. */
function skewMatrices({ rows: count, cols: entries, values }: Matrix, size: number): Matrix[] {
  return Array.from({ length: count }, (_, block) => {
    const out = matrix(size, size)
    let at = block * entries
    for (let r = 0; r < size; r++)
      for (let c = r + 1; c < size; c++, at++) {
        out.values[r * size + c] = values[at]
        out.values[c * size + r] = -values[at]
      }
    return out
  })
}

/** Constrained OFT: matrices longer than eps / √blocks are cut to that length. */
function constrain(blocks: readonly Matrix[], eps: number): void {
  const limit = eps / Math.sqrt(blocks.length)
  for (const { values } of blocks) {
    const length = Math.sqrt(dot(values, values))
    if (length > limit) for (let i = 0; i < values.length; i++) values[i] *= limit / length
  }
}

function rotationOf(q: Matrix, module: Module): Matrix {
  if (module.config.use_cayley_neumann === false) return cayley(q, module)
  // 1 + 2Q + 2Q² + … , the last term once.
  const terms = module.number('num_cayley_neumann_terms')
  let out = identity(q.rows)
  if (terms > 1) out = sum(out, q, 2)
  if (terms <= 2) return out
  let power = product(q, q)
  out = sum(out, power, 2)
  for (let i = 3; i < terms - 1; i++) {
    power = product(power, q)
    out = sum(out, power, 2)
  }
  return sum(out, product(power, q))
}

/** (1 − Q) · (1 + Q)⁻¹, as peft solves X · (1 + Q) = 1 − Q. */
function cayley(q: Matrix, module: Module): Matrix {
  const unit = identity(q.rows)
  const inverted = inverse(sum(unit, q))
  if (inverted === undefined) throw misfit(module, 'rotations', 'a matrix that has no inverse')
  return product(sum(unit, q, -1), inverted)
}

/** BOFT: butterflies of rotated blocks, then a scale of each output. The bias stays. */
export const boft: AdapterKind = {
  label: 'BOFT',
  parts: ['boft_R', 'boft_s'],
  fields: [
    ...['boft_block_size', 'boft_block_num', 'boft_n_butterfly_factor', 'boft_dropout', 'init_weights'],
    'fan_in_fan_out',
  ],
  change(module) {
    const { rows, cols } = module
    const tensor = module.shaped('boft_R', -1, -1, -1, -1)
    const [factors, count, size] = tensor.shape
    module.shaped('boft_R', factors, cols / size, size, size)
    const scales = module.part('boft_s')
    module.shaped('boft_s', ...(module.filter === undefined ? [rows, 1] : [1, rows]))
    const values = async () => {
      const all = await valuesOf(tensor)
      const weight = await module.weight()
      let turned = weight
      for (let factor = 0; factor < factors; factor++) {
        const order = butterfly(cols, count / 2 ** factor, size / 2, factors - 1)
        const inOrder = picked(turned, order)
        const out = matrix(rows, cols)
        for (let block = 0; block < count; block++) {
          const at = (factor * count + block) * size * size
          const raw = { rows: size, cols: size, values: all.values.slice(at, at + size * size) }
          const skew = {
            ...raw,
            values: sum(raw, transposedMatrix(raw), -1).values.map((value) => value / 2),
          }
          addBlock(out, inOrder, transposedMatrix(cayley(skew, module)), block * size)
        }
        turned = placed(out, order)
      }
      const { values } = await valuesOf(scales)
      const scaled = turned.values.map((value, i) => value * values[Math.floor(i / cols)])
      return sum({ rows, cols, values: scaled }, weight, -1)
    }
    return { weight: { kind: 'delta', values } }
  },
}

/** The order in which a factor of the butterfly takes the inputs (peft's `block_butterfly_perm`). */
function butterfly(inputs: number, blocks: number, half: number, factors: number): Uint32Array {
  const order = Uint32Array.from({ length: inputs }, (_, i) => i)
  if (factors === 0) return order
  const size = Math.floor(inputs / Math.floor(blocks))
  const halves = size / half
  const sequence = [0, 1].flatMap((first) => {
    const some: number[] = []
    for (let i = first; i < halves; i += 2) some.push(i)
    return some
  })
  for (let from = 0; from < inputs; from += size)
    for (const [i, position] of sequence.entries())
      for (let k = 0; k < half; k++) order[from + i * half + k] = from + position * half + k
  return order
}

/** P · D · Pᵀ with P[i, order[i]] = 1 takes column j of D to where order says j: columns in that order. */
function picked(of: Matrix, order: Uint32Array): Matrix {
  const out = matrix(of.rows, of.cols)
  for (let r = 0; r < of.rows; r++)
    for (const [i, to] of order.entries()) out.values[r * of.cols + to] = of.values[r * of.cols + i]
  return out
}

function placed(of: Matrix, order: Uint32Array): Matrix {
  const out = matrix(of.rows, of.cols)
  for (let r = 0; r < of.rows; r++)
    for (const [i, from] of order.entries()) out.values[r * of.cols + i] = of.values[r * of.cols + from]
  return out
}

/** HRA: reflections of the inputs, one after the other or of orthogonal vectors. They add a product of their number. */
export const hra: AdapterKind = {
  label: 'HRA',
  parts: ['hra_u'],
  fields: ['r', 'apply_GS', 'init_weights'],
  change(module) {
    const { rows, cols } = module
    const tensor = module.shaped('hra_u', cols, -1)
    const rank = tensor.shape[1]
    const factors = async () => {
      const own = await valuesOf(tensor)
      const isOrthogonal = isOn(module.config.apply_GS)
      // One vector a row.
      const right = transposedMatrix(isOrthogonal ? orthonormalColumns(own) : own)
      const row = (k: number) => right.values.subarray(k * cols, (k + 1) * cols)
      for (let k = 0; k < rank; k++) {
        const length = Math.sqrt(dot(row(k), row(k)))
        for (let c = 0; c < cols; c++) row(k)[c] /= length
      }
      // W′ = W · Π (1 − 2·u·uᵀ): each reflection also turns what those before it added.
      const left = product(await module.weight(), transposedMatrix(right))
      for (let k = 0; k < rank; k++) {
        for (let j = 0; j < k; j++) {
          const along = isOrthogonal ? 0 : dot(row(j), row(k))
          for (let r = 0; r < rows; r++) left.values[r * rank + k] += left.values[r * rank + j] * along
        }
        for (let r = 0; r < rows; r++) left.values[r * rank + k] *= -2
      }
      return { left, right }
    }
    return { weight: { kind: 'product', rank, factors } }
  },
}

/** RoAd: pairs of outputs are rotated and stretched, and the bias with them. */
export const road: AdapterKind = {
  label: 'RoAd',
  parts: ['road_theta', 'road_alpha'],
  fields: ['variant', 'group_size', 'init_weights'],
  change(module) {
    const { rows } = module
    const variant = String(module.config.variant)
    const length = { road_1: rows / 2, road_2: rows, road_4: rows * 2 }[variant]
    const group = module.number('group_size')
    if (length === undefined || !Number.isInteger(rows / group) || group % 2 !== 0) {
      throw misfit(module, 'a variant and groups that fill its outputs', `${variant} in groups of ${group}`)
    }
    const [theta, alpha] = [module.shaped('road_theta', length), module.shaped('road_alpha', length)]
    /** What is added to a matrix of as many rows as there are outputs. */
    const added = async (of: Matrix) => {
      const [angles, lengths] = [(await valuesOf(theta)).values, (await valuesOf(alpha)).values]
      const half = group / 2
      const at = (row: number, second: boolean) => {
        const [first, inside] = [Math.floor(row / group), row % group]
        if (variant === 'road_1') return first * half + (inside % half)
        return variant === 'road_2' ? row : (2 * first + (second ? 1 : 0)) * group + inside
      }
      const out = matrix(of.rows, of.cols)
      for (let row = 0; row < rows; row++) {
        const isUpper = row % group < half
        const other = isUpper ? row + half : row - half
        const [one, two] = [at(row, false), at(row, true)]
        const along = lengths[one] * Math.cos(angles[one]) - 1
        const across = lengths[two] * Math.sin(angles[two]) * (isUpper ? -1 : 1)
        for (let c = 0; c < of.cols; c++)
          out.values[row * of.cols + c] =
            along * of.values[row * of.cols + c] + across * of.values[other * of.cols + c]
      }
      return out
    }
    const { bias } = module
    return {
      weight: { kind: 'delta', values: async () => added(await module.weight()) },
      bias: bias && (async () => added(transposedMatrix(await bias()))),
    }
  },
}

function misfit(module: Module, expected: string, found: string): TritswapError {
  return new TritswapError(
    'input',
    `Cannot compress what is trained for ${module.path}: expected ${expected}, found ${found}; give the base that the adapter was trained on, or leave it out with --exclude`,
    { fields: { module: module.path, expected, found } },
  )
}
