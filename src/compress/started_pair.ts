/**
 * LoRA pairs that peft began from the base: PiSSA by the largest singular values of its weights, OLoRA by the first columns.
 * What they began with was taken out of the base, so here it is taken out of the pair, and the base stays as it was.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { formedTensor } from './formed_tensor.ts'
import { valuesOf } from './kinds/kind.ts'
import {
  type Matrix,
  matrix,
  orthonormalColumns,
  product,
  topSingular,
  transposedMatrix,
} from './matrices.ts'
import { type BaseModule, weightValues } from './modules.ts'
import type { StoredPair } from './reduced_rank.ts'
import type { Product } from './row_lengths.ts'

/** Multiplications that singular values may take: some minutes. */
const MAX_WORK = 2 ** 36
/** Passes over all pairs of rows. */
const SWEEPS = 10

interface Start {
  method: 'pissa' | 'olora'
  scaling: number
  own: BaseModule
  path: string
}

/** B [outputs, rank] and A [rank, inputs] of a pair. */
export async function factorsOf({ a, b }: StoredPair): Promise<Product> {
  return { left: await valuesOf(b), right: await valuesOf(a) }
}

/**
 * A pair of twice the rank that changes the base as it is by what the pair changes the base that it was trained on.
 * @throws {TritswapError} `limit` for singular values that take too long, `unsupported` for layers that are not linear
 */
export function pairWithoutStart(pair: StoredPair, from: Start): StoredPair {
  const { method, own, path } = from
  const { a, b } = pair
  const [rank, rows, cols] = [a.shape[0], b.shape[0], a.shape[1]]
  if (a.shape.length !== 2 || own.layout === 'embedding' || (method === 'olora' && own.layout !== 'linear')) {
    throw new TritswapError(
      'unsupported',
      `Cannot compress what is trained for ${path}: expected a linear layer for factors begun by ${method}, found ${own.layout}; merge the adapter (peft: model.merge_and_unload()) and use --base <base> --finetuned merged`,
      { fields: { module: path, method } },
    )
  }
  const small = Math.min(rows, cols)
  const work = method === 'pissa' ? SWEEPS * 3 * small * small * Math.max(rows, cols) : 0
  if (work > MAX_WORK) {
    throw new TritswapError(
      'limit',
      `Cannot compress what is trained for ${path}: its factors were begun by the singular values of a ${rows} × ${cols} weight, and finding them is too much work; save it as a plain LoRA (peft: model.save_pretrained(out, path_initial_model_for_weight_conversion=<the adapter as it was before training>)) and compress that`,
      { fields: { module: path, work, limit: MAX_WORK } },
    )
  }
  let found: Promise<Product> | undefined
  const start = () => {
    found ??= startOf(from, rank)
    return found
  }
  return {
    a: formedTensor(a.name, [2 * rank, cols], a.source.name, async () => {
      const values = new Float32Array(2 * rank * cols)
      values.set((await valuesOf(a)).values)
      values.set((await start()).right.values, rank * cols)
      return values
    }),
    b: formedTensor(b.name, [rows, 2 * rank], b.source.name, async () => {
      const [trained, { left }] = [await valuesOf(b), await start()]
      const values = new Float32Array(rows * 2 * rank)
      for (let r = 0; r < rows; r++)
        for (let k = 0; k < rank; k++) {
          values[r * 2 * rank + k] = trained.values[r * rank + k]
          values[r * 2 * rank + rank + k] = -left.values[r * rank + k]
        }
      return values
    }),
  }
}

/** What the factors began as: the base had scaling · left · right taken out. */
async function startOf({ method, own, scaling }: Start, rank: number): Promise<Product> {
  const weight = await weightValues(own)
  if (method === 'pissa') {
    const { left, right } = topSingular(weight, rank)
    return { left: { ...left, values: left.values.map((value) => value / scaling) }, right }
  }
  // W = Q · R: the first columns of Q are those of W made orthonormal, the rows of R what they have in common with W.
  const columns = matrix(weight.rows, rank)
  for (let r = 0; r < weight.rows; r++)
    columns.values.set(weight.values.subarray(r * weight.cols, r * weight.cols + rank), r * rank)
  const left = orthonormalColumns(columns)
  return { left, right: product(transposedMatrix(left), weight) }
}

/** The pair with the rows of B scaled. */
export function withScales({ a, b }: StoredPair, scales: () => Promise<Float64Array>): StoredPair {
  const scaled = async (): Promise<Matrix> => {
    const [own, factors] = [await valuesOf(b), await scales()]
    return { ...own, values: own.values.map((value, i) => value * factors[Math.floor(i / own.cols)]) }
  }
  return {
    a,
    b: formedTensor(b.name, b.shape, b.source.name, async () => Float32Array.from((await scaled()).values)),
  }
}
