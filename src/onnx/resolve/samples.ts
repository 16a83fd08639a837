/**
 * Values of tensors at a few positions, to compare an initializer with what the checkpoint holds.
 *
 * @module
 */
import { fromHalf } from '../../format/float16.ts'
import { type Placement, tilingOf, weightsOf } from '../../format/index.ts'
import { type InitializerData, readElements } from '../proto/initializer_data.ts'
import type { Checkpoint } from './checkpoint.ts'

/** Values compared per tensor: two different trained tensors never agree in all of them. */
const SAMPLES = 32

/** Matrix positions that samples are taken at: spread, off the diagonal, the same for all tensors of a shape. */
function positionsOf(shape: readonly number[]): { row: number; col: number }[] {
  const { rows, cols } = tilingOf(shape)
  const weights = weightsOf(shape)
  return Array.from({ length: SAMPLES }, (_, i) => {
    const flat = Math.floor((((i + 0.5) * 0.618033988749895) % 1) * weights)
    return { row: Math.floor(flat / cols) % rows, col: flat % cols }
  })
}

/** Samples of an initializer, taken as one tensor or another. */
export class InitializerSamples {
  readonly #data: InitializerData
  readonly #cache = new Map<string, Promise<number[]>>()

  constructor(data: InitializerData) {
    this.#data = data
  }

  at(shape: readonly number[], { offset, rowStride, colStride }: Placement): Promise<number[]> {
    const key = [shape, offset, rowStride, colStride].join()
    return cached(this.#cache, key, () =>
      Promise.all(
        positionsOf(shape).map(async ({ row, col }) => {
          const [value] = await readElements(this.#data, offset + row * rowStride + col * colStride, 1)
          return this.#data.dtype === 'float16' ? fromHalf(value) : value
        }),
      ),
    )
  }
}

export class CheckpointSamples {
  readonly #checkpoint: Checkpoint
  readonly #cache = new Map<string, Promise<number[]>>()

  constructor(checkpoint: Checkpoint) {
    this.#checkpoint = checkpoint
  }

  get tensors(): Checkpoint['tensors'] {
    return this.#checkpoint.tensors
  }

  of(name: string): Promise<number[]> {
    return cached(this.#cache, name, () => {
      const { shape } = this.tensors.get(name)!
      const { cols } = tilingOf(shape)
      return Promise.all(
        positionsOf(shape).map(
          async ({ row, col }) => (await this.#checkpoint.read(name, row * cols + col, 1))[0],
        ),
      )
    })
  }
}

function cached<T>(cache: Map<string, T>, key: string, make: () => T): T {
  const known = cache.get(key)
  if (known !== undefined) return known
  const value = make()
  cache.set(key, value)
  return value
}

/** How exactly an initializer may have the values of its checkpoint. */
export type Precision = Pick<InitializerData, 'dtype' | 'quantized'>

export function coarser(a: Precision, b: Precision): Precision {
  return { dtype: a.dtype === b.dtype ? a.dtype : 'float16', quantized: a.quantized ?? b.quantized }
}

/** Largest ‖found − expected‖ / ‖expected‖ of 4-bit weights; that of unrelated ones is about 1.4. */
const QUANTIZED_DISTANCE = 0.35

/** Whether values are equal but for the rounding of the export. */
export function sameValues(
  found: readonly number[],
  expected: readonly number[],
  { dtype, quantized }: Precision,
): boolean {
  if (quantized) {
    const square = (values: readonly number[]) => values.reduce((sum, value) => sum + value * value, 0)
    const distance = square(found.map((value, i) => value - expected[i]))
    return distance <= QUANTIZED_DISTANCE ** 2 * square(expected)
  }
  // Converters to f16 raise values below 1e-7 to that.
  const relative = dtype === 'float16' ? 2 ** -10 : 2 ** -20
  const absolute = dtype === 'float16' ? 2e-7 : 1e-12
  return found.every(
    (value, i) => Math.abs(value - expected[i]) <= relative * Math.abs(expected[i]) + absolute,
  )
}

export function isConstant(values: readonly number[]): boolean {
  return values.every((value) => value === values[0])
}
