/**
 * LoHa and LoKr: products of products, from LyCORIS.
 *
 * @module
 */
import { type Matrix, matrix, product, transposedMatrix } from '../matrices.ts'
import type { StoredTensor } from '../safetensors.ts'
import { type AdapterKind, isFew, type Module, valuesOf } from './kind.ts'

const FIELDS = [
  ...['r', 'alpha', 'rank_pattern', 'alpha_pattern', 'rank_dropout', 'module_dropout', 'init_weights'],
  ...['use_effective_conv2d', 'decompose_both', 'decompose_factor', 'rank_dropout_scale'],
]

/** LoHa: (w1a · w1b) ⊙ (w2a · w2b), which has the rank r². */
export const loha: AdapterKind = {
  label: 'LoHa',
  parts: ['hada_w1_a', 'hada_w1_b', 'hada_w2_a', 'hada_w2_b', 'hada_t1', 'hada_t2'],
  fields: FIELDS,
  size(module) {
    if (module.has('hada_t1')) return undefined
    return { rows: module.part('hada_w1_a').shape[0], cols: module.part('hada_w1_b').shape[1] }
  },
  change(module) {
    const { rows, cols } = module
    const scaling = module.patterned('alpha') / module.patterned('r')
    if (module.has('hada_t1')) {
      const halves = ['1', '2'].map((half) =>
        kernelParts(module, `hada_t${half}`, `hada_w${half}_a`, `hada_w${half}_b`, rows),
      )
      const values = async () => {
        const [first, second] = [await kernel(halves[0]), await kernel(halves[1])]
        return { rows, cols, values: first.values.map((value, i) => scaling * value * second.values[i]) }
      }
      return { weight: { kind: 'delta', values } }
    }
    const a = [module.shaped('hada_w1_a', rows, -1), module.shaped('hada_w2_a', rows, -1)]
    const b = ['hada_w1_b', 'hada_w2_b'].map((name, i) => module.shaped(name, a[i].shape[1], cols))
    const [r1, r2] = a.map(({ shape }) => shape[1])
    const factors = async () => {
      const [a1, a2, b1, b2] = [
        await valuesOf(a[0]),
        await valuesOf(a[1]),
        await valuesOf(b[0]),
        await valuesOf(b[1]),
      ]
      const left = matrix(rows, r1 * r2)
      const right = matrix(r1 * r2, cols)
      for (let i = 0; i < r1; i++)
        for (let j = 0; j < r2; j++) {
          const k = i * r2 + j
          for (let r = 0; r < rows; r++)
            left.values[r * r1 * r2 + k] = scaling * a1.values[r * r1 + i] * a2.values[r * r2 + j]
          for (let c = 0; c < cols; c++)
            right.values[k * cols + c] = b1.values[i * cols + c] * b2.values[j * cols + c]
        }
      return { left, right }
    }
    return { weight: { kind: 'product', rank: r1 * r2, factors } }
  },
}

interface KernelParts {
  core: StoredTensor
  outputs: StoredTensor
  inputs: StoredTensor
}

/** A kernel as its outputs [r, out] and inputs [r, in] around a core [r, r, height, width]. */
function kernelParts(
  module: Module,
  core: string,
  outputs: string,
  inputs: string,
  rows: number,
): KernelParts {
  const tensor = module.shaped(core, -1, -1, -1, -1)
  return {
    core: tensor,
    outputs: module.shaped(outputs, tensor.shape[0], rows),
    inputs: module.shaped(inputs, tensor.shape[1], -1),
  }
}

/** Σ core[i, j, …] · outputs[i, p] · inputs[j, q], as [p, q · kernel]. */
async function kernel({ core, outputs, inputs }: KernelParts): Promise<Matrix> {
  const [ranks, , height, width] = core.shape
  const size = height * width
  const [own, out, into] = [await valuesOf(core), await valuesOf(outputs), await valuesOf(inputs)]
  const [rows, channels] = [out.cols, into.cols]
  const result = matrix(rows, channels * size)
  for (let i = 0; i < ranks; i++) {
    // [channels, kernel] of this rank
    const plane = product(
      { rows: channels, cols: into.rows, values: transposedMatrix(into).values },
      {
        rows: into.rows,
        cols: size,
        values: own.values.subarray(i * into.rows * size, (i + 1) * into.rows * size),
      },
    )
    for (let p = 0; p < rows; p++) {
      const factor = out.values[i * rows + p]
      for (let at = 0; at < plane.values.length; at++)
        result.values[p * plane.values.length + at] += factor * plane.values[at]
    }
  }
  return result
}

/** LoKr: the Kronecker product of two matrices, either of them perhaps a product itself. */
export const lokr: AdapterKind = {
  label: 'LoKr',
  parts: ['lokr_w1', 'lokr_w1_a', 'lokr_w1_b', 'lokr_w2', 'lokr_w2_a', 'lokr_w2_b', 'lokr_t2'],
  fields: FIELDS,
  change(module) {
    const { rows, cols } = module
    const scaling = module.patterned('alpha') / module.patterned('r')
    const first = side(module, 'lokr_w1')
    const second = side(module, 'lokr_w2')
    // In a convolution the second one has the kernel after its inputs.
    const size = module.filter === undefined ? 1 : module.filter[1] * module.filter[2]
    if (first.rows * second.rows !== rows || first.cols * second.cols !== cols) {
      module.shaped(module.has('lokr_w1') ? 'lokr_w1' : 'lokr_w1_a', rows / second.rows, -1)
      module.shaped(module.has('lokr_w1') ? 'lokr_w1' : 'lokr_w1_b', -1, cols / second.cols)
    }
    const rank = first.rank * second.rank
    if (
      size === 1 &&
      isFew(rank, rows, cols) &&
      first.factors !== undefined &&
      second.factors !== undefined
    ) {
      const [one, two] = [first.factors, second.factors]
      const factors = async () => {
        const [x, y] = [await one(), await two()]
        const left = kronecker(x.left, y.left, 1)
        return {
          left: { ...left, values: left.values.map((value) => scaling * value) },
          right: kronecker(x.right, y.right, 1),
        }
      }
      return { weight: { kind: 'product', rank, factors } }
    }
    const values = async () => {
      const whole = kronecker(await first.values(), await second.values(), size)
      return { rows, cols, values: whole.values.map((value) => scaling * value) }
    }
    return { weight: { kind: 'delta', values } }
  },
}

interface Side {
  rows: number
  cols: number
  rank: number
  values(): Promise<Matrix>
  factors?(): Promise<{ left: Matrix; right: Matrix }>
}

function side(module: Module, name: 'lokr_w1' | 'lokr_w2'): Side {
  if (module.has(name)) {
    const tensor = module.part(name)
    const [rows] = module.shaped(name, ...tensor.shape.map(() => -1)).shape
    const cols = tensor.weights / rows
    const values = () => valuesOf(tensor)
    // A whole matrix is a product with one of ones on its diagonal.
    const factors = async () => {
      const right = matrix(cols, cols)
      for (let i = 0; i < cols; i++) right.values[i * cols + i] = 1
      return { left: await values(), right }
    }
    return { rows, cols, rank: cols, values, factors: tensor.shape.length === 2 ? factors : undefined }
  }
  if (name === 'lokr_w2' && module.has('lokr_t2')) {
    const core = module.shaped('lokr_t2', -1, -1, -1, -1)
    const outputs = module.shaped('lokr_w2_a', core.shape[0], -1)
    const inputs = module.shaped('lokr_w2_b', core.shape[1], -1)
    const cols = inputs.shape[1] * core.shape[2] * core.shape[3]
    return { rows: outputs.shape[1], cols, rank: cols, values: () => kernel({ core, outputs, inputs }) }
  }
  const a = module.shaped(`${name}_a`, -1, -1)
  const b = module.shaped(`${name}_b`, a.shape[1], -1)
  const factors = async () => ({ left: await valuesOf(a), right: await valuesOf(b) })
  const values = async () => {
    const { left, right } = await factors()
    return product(left, right)
  }
  return { rows: a.shape[0], cols: b.shape[1], rank: a.shape[1], values, factors }
}

/** @param size - elements of a kernel after each input of `b` */
function kronecker(a: Matrix, b: Matrix, size: number): Matrix {
  const inputs = b.cols / size
  const out = matrix(a.rows * b.rows, a.cols * b.cols)
  for (let i = 0; i < a.rows; i++)
    for (let j = 0; j < a.cols; j++) {
      const factor = a.values[i * a.cols + j]
      for (let k = 0; k < b.rows; k++) {
        const row = (i * b.rows + k) * out.cols
        for (let c = 0; c < b.cols; c++)
          out.values[row + j * inputs * size + c] = factor * b.values[k * b.cols + c]
      }
    }
  return out
}
