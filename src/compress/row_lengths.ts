/**
 * Scales that give the rows of a weight the lengths that they were trained to, whatever is added to them: DoRA's. What is
 * added is known once it is compressed, so these scales come last.
 *
 * @module
 */

import { TritswapError } from '../errors.ts'
import { encodeDense } from '../format/codecs/dense.ts'
import { decodeTermsOf, decodeValues } from '../format/codecs/index.ts'
import { contributionsOf, factorOf, type LowRank } from '../format/contributions.ts'
import type { FloatDtype } from '../format/dtype.ts'
import { fromHalf, toHalf } from '../format/float16.ts'
import type { TritTensor } from '../format/table.ts'
import { tilingOf } from '../format/tiling.ts'
import type { NewTensorWithoutBytes } from '../format/writer.ts'
import { dot, type Matrix, matrix, product, transposedMatrix } from './matrices.ts'
import type { TaskTensor } from './task_vector.ts'

/** left [rows, rank] · right [rank, cols]. */
export interface Product {
  left: Matrix
  right: Matrix
}

/**
 * Scales g of the rows of W for which |g·W + P| has the lengths asked for; of two such, the one nearer to where training
 * left it. Where P alone is too long for any, the scale that comes nearest.
 * @param near - scales before P was compressed
 */
function rowScales(weight: Matrix, added: Product | undefined, lengths: Float64Array, near: Float64Array) {
  const { rows, cols, values } = weight
  const along = added && product(weight, transposedMatrix(added.right))
  const gram = added && product(added.right, transposedMatrix(added.right))
  return Float64Array.from({ length: rows }, (_, r) => {
    const row = values.subarray(r * cols, (r + 1) * cols)
    const own = dot(row, row)
    if (own === 0) return near[r]
    let [cross, extra] = [0, 0]
    if (added !== undefined && along !== undefined && gram !== undefined) {
      const rank = added.left.cols
      const left = added.left.values.subarray(r * rank, (r + 1) * rank)
      cross = dot(left, along.values.subarray(r * rank, (r + 1) * rank))
      for (let k = 0; k < rank; k++)
        extra += left[k] * dot(left, gram.values.subarray(k * rank, (k + 1) * rank))
    }
    // own·g² + 2·cross·g + extra = length²
    const root = cross * cross - own * (extra - lengths[r] ** 2)
    if (root <= 0) return -cross / own
    const both = [(-cross + Math.sqrt(root)) / own, (-cross - Math.sqrt(root)) / own]
    return Math.abs(both[0] - near[r]) <= Math.abs(both[1] - near[r]) ? both[0] : both[1]
  })
}

/** @throws {TritswapError} `input` where a scale is left out and the pair that it is for is not */
export function checkScales(chosen: readonly TaskTensor[]): void {
  const scaled = new Set(chosen.flatMap(({ rowLengths }) => rowLengths?.of ?? []))
  const alone = chosen.find(({ isLengthened, target }) => isLengthened && !scaled.has(target))
  if (alone === undefined) return
  throw new TritswapError(
    'input',
    `Cannot compress ${alone.name}: DoRA's scale of ${alone.target} is left out, and without it the factors mean something else; leave out both or neither`,
    { fields: { tensor: alone.name, target: alone.target } },
  )
}

/** Keeps what is added to the targets of scales, as a reader of the file decodes it. */
export class AddedProducts {
  readonly #wanted: ReadonlySet<string>
  readonly #factors = new Map<string, { tensor: TritTensor; values: Float32Array }[]>()
  readonly #products = new Map<string, Product>()

  constructor(scales: readonly TaskTensor[]) {
    this.#wanted = new Set(scales.flatMap(({ rowLengths }) => rowLengths?.of ?? []))
  }

  /** Whether a tensor's section is to be given to {@link take}. */
  wants({ target, role }: Pick<TaskTensor, 'target' | 'role'>): boolean {
    return this.#wanted.has(target) && factorOf({ role }) !== undefined
  }

  take(tensor: NewTensorWithoutBytes, bytes: Uint8Array<ArrayBuffer>): void {
    if (!this.#wanted.has(tensor.target)) return
    const stored = { ...tensor, bytes: bytes.length, offset: 0 } as TritTensor
    const terms = decodeTermsOf(stored, bytes)
    if (terms !== undefined) {
      const { rows, cols } = tilingOf(stored.shape)
      const count = terms.scales.length
      const x = {
        rows: count,
        cols: rows,
        values: Float64Array.from(terms.x, (value, i) => value * terms.scales[Math.floor(i / rows)]),
      }
      const whole = { left: transposedMatrix(x), right: matrix(count, cols, terms.y) }
      this.#products.set(tensor.target, isTransposed(stored) ? swapped(whole) : whole)
      return
    }
    const factors = this.#factors.get(tensor.target) ?? []
    this.#factors.set(tensor.target, [...factors, { tensor: stored, values: decodeValues(stored, bytes) }])
  }

  /** What is added to a target [outputs, inputs]; undefined for nothing. */
  of(target: string): Product | undefined {
    const factors = this.#factors.get(target)
    if (factors === undefined) return this.#products.get(target)
    const [pair] = contributionsOf(factors.map(({ tensor }) => tensor)) as LowRank[]
    const { left, right, rank, scaling } = pair
    const [a, b] = left.rankFirst ? [left, right] : [right, left]
    const valuesOf = ({ index }: { index: number }) => factors[index].values
    return {
      left: matrix(
        valuesOf(b).length / rank,
        rank,
        valuesOf(b).map((value) => value * scaling),
      ),
      right: matrix(rank, valuesOf(a).length / rank, valuesOf(a)),
    }
  }
}

function isTransposed({ layout }: Pick<TritTensor, 'layout'>): boolean {
  return layout === 'conv1d' || layout === 'embedding'
}

function swapped({ left, right }: Product): Product {
  return { left: transposedMatrix(right), right: transposedMatrix(left) }
}

/** The sections of the scales of one target, rounded as they are stored: they, and what is added to the bias, agree. */
export async function scaleSections(
  tensors: readonly TaskTensor[],
  products: AddedProducts,
  dtype: FloatDtype,
): Promise<{ tensor: NewTensorWithoutBytes; section: Uint8Array<ArrayBuffer>; values: Float32Array }[]> {
  const sections = []
  for (const tensor of tensors) {
    const { name, shape, role, target, layout, feedforward, rowLengths } = tensor
    const { weight, lengths, scales, of, bias } = rowLengths!
    const exact = rowScales(await weight(), products.of(of), await lengths(), await scales())
    const stored = Float32Array.from(exact, (scale) =>
      dtype === 'f16' ? fromHalf(toHalf(scale - 1)) : scale - 1,
    )
    const own = bias && (await bias()).values
    const values = own === undefined ? stored : stored.map((value, i) => -value * own[i])
    const { buffer, byteOffset, byteLength } = encodeDense(values, dtype)
    sections.push({
      tensor: { name, shape, role, target, layout, feedforward, codec: 'dense' as const, dtype },
      section: new Uint8Array(buffer, byteOffset, byteLength),
      values,
    })
  }
  return sections
}
