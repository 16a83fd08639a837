/**
 * DoRA: the rows of W + scaling · B · A brought to trained lengths m, so that W′ = g ⊙ W + g ⊙ scaling · B · A with
 * g = m / |W + scaling · B · A|. It is stored as a pair of g ⊙ B and A, and a scale of rows as of (IA)³, g − 1; where the
 * module has a bias, which (IA)³ scales and DoRA does not, a delta of it takes the scale back.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { formedTensor } from './formed_tensor.ts'
import { valuesOf } from './kinds/kind.ts'
import { dot, type Matrix, product, sum, transposedMatrix } from './matrices.ts'
import { type BaseModule, sizeOf, weightValues } from './modules.ts'
import type { Product } from './row_lengths.ts'
import type { StoredTensor } from './safetensors.ts'
import type { RowLengths, TaskTensor } from './task_vector.ts'

/** A module with its pair before the lengths of its rows are seen to. */
export interface DoraModule {
  path: string
  own: BaseModule
  /** [outputs], or of a convolution [1, outputs, 1…]. */
  magnitude: StoredTensor
  /** scaling · B and A. */
  added: () => Promise<Product>
}

/** The scales g of its rows. */
export function doraScales({ own, magnitude, added }: DoraModule): () => Promise<Float64Array> {
  let found: Promise<Float64Array> | undefined
  const find = async () => {
    const { left, right } = await added()
    const whole = sum(await outputsFirst(own), product(left, right))
    const { values: lengths } = await valuesOf(magnitude)
    return lengths.map((length, r) => {
      const row = whole.values.subarray(r * whole.cols, (r + 1) * whole.cols)
      return length / Math.sqrt(dot(row, row))
    })
  }
  return () => {
    found ??= find()
    return found
  }
}

/** A weight as [outputs, inputs]; the outputs of an embedding are its features. */
async function outputsFirst(own: BaseModule): Promise<Matrix> {
  const weight = await weightValues(own)
  return own.layout === 'embedding' ? transposedMatrix(weight) : weight
}

/** The tensors of the scale: of the rows, and of the bias that is not scaled. */
export function scaleTensors(module: DoraModule): TaskTensor[] {
  const { path, own, magnitude } = module
  const scales = doraScales(module)
  const size = sizeOf(own)
  const rows = own.layout === 'embedding' ? size.cols : size.rows
  if (magnitude.weights !== rows) {
    throw new TritswapError(
      'input',
      `Cannot compress ${magnitude.name}: expected ${rows} lengths, one for each output of ${path}, found [${magnitude.shape}]`,
      { fields: { tensor: magnitude.name, expected: rows, found: magnitude.shape } },
    )
  }
  const rowLengths: RowLengths = {
    of: own.knownAs,
    weight: () => outputsFirst(own),
    lengths: async () => (await valuesOf(magnitude)).values,
    scales,
  }
  const formed = (
    name: string,
    shape: readonly number[],
    values: (scales: Float64Array) => Promise<Float64Array>,
  ) =>
    formedTensor(name, shape, magnitude.source.name, async () =>
      Float32Array.from(await values(await scales())),
    )
  const tensors: TaskTensor[] = [
    {
      name: magnitude.name,
      shape: [rows, 1],
      role: 'ia3',
      target: own.knownAs,
      layout: own.layout,
      theta: formed(magnitude.name, [rows, 1], async (scales) => scales),
      init: 1,
      rowLengths,
    },
  ]
  const { bias } = own
  if (bias !== undefined) {
    const values = () => valuesOf(bias)
    tensors.push({
      name: bias.name,
      shape: bias.shape,
      role: 'delta',
      target: bias.name,
      theta: formed(bias.name, bias.shape, async (scales) => {
        const own = (await values()).values
        return scales.map((scale, i) => (1 - scale) * own[i])
      }),
      init: 0,
      rowLengths: { ...rowLengths, bias: values },
    })
  }
  return tensors
}
