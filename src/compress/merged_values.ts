/**
 * The values of merged experts: summed up, or voted on, entry by entry.
 *
 * @module
 */
import { decodeEntries, decodeValues } from '../format/codecs/index.ts'
import { readSection } from '../format/section.ts'
import type { TritTensor } from '../format/table.ts'
import { weightsOf } from '../format/tiling.ts'
import type { ByteSource, ReadOptions } from '../source/source.ts'
import { type OpenExpert, sameTensors } from './open_expert.ts'
import type { StoredTensor } from './safetensors.ts'
import type { TaskTensor } from './task_vector.ts'

/**
 * - `average`: Σ wᵢ·τᵢ / Σ wᵢ
 * - `task-arithmetic`: Σ wᵢ·τᵢ (Ilharco et al. 2023)
 * - `ties`: entry by entry, the sign with the larger Σ |wᵢ·τᵢ| is elected, and the result is the mean of the wᵢ·τᵢ
 *   that have it (Yadav et al. 2023); 0 where the two signs weigh the same. The trimming that comes first in the
 *   paper is what compression did to each expert.
 */
export type MergeMethod = (typeof MERGE_METHODS)[number]

export const MERGE_METHODS = ['average', 'task-arithmetic', 'ties'] as const

/** Bytes of merged values that are remembered between passes: as many as compression works on at once. */
const REMEMBERED_BYTES = 2 ** 27

/** A merged tensor in the form of a stored one; its values are computed when they are read. */
export function mergedTensor(experts: readonly OpenExpert[], name: string, read: ReadValues): TaskTensor {
  const tensors = sameTensors(experts, name)
  const { shape, role, target, layout, feedforward, scaling } = tensors.find(
    (tensor) => tensor !== undefined,
  )!
  const weights = weightsOf(shape)
  const source: ByteSource = {
    name: `merged ${name}`,
    size: async () => weights * 4,
    async read(offset, length) {
      const { buffer, byteOffset } = await read(name)
      return new Uint8Array(buffer, byteOffset + offset, length).slice()
    },
  }
  const theta: StoredTensor = { name, dtype: 'F32', shape, weights, source, offset: 0, bytes: weights * 4 }
  return { name, shape, role, target, layout, feedforward, scaling, theta, init: 0 }
}

export type ReadValues = (name: string) => Promise<Float32Array<ArrayBuffer>>

/** Remembers the values read last, up to {@link REMEMBERED_BYTES}: every pass reads a tensor slice by slice. */
export function rememberValues(read: ReadValues): ReadValues {
  const recent = new Map<string, Promise<Float32Array<ArrayBuffer>>>()
  const sizes = new Map<string, number>()
  return async (name) => {
    const found = recent.get(name) ?? read(name)
    recent.delete(name)
    recent.set(name, found)
    found.then(
      ({ byteLength }) => sizes.set(name, byteLength),
      () => recent.delete(name),
    )
    const bytes = () => [...recent.keys()].reduce((sum, key) => sum + (sizes.get(key) ?? 0), 0)
    for (const oldest of recent.keys()) {
      if (oldest === name || bytes() <= REMEMBERED_BYTES) break
      recent.delete(oldest)
    }
    return found
  }
}

/**
 * The merged values of one tensor, flat and row-major.
 * @param shares - as {@link sharesOf}, for this tensor
 */
export async function mergedValues(
  experts: readonly OpenExpert[],
  name: string,
  method: MergeMethod,
  shares: readonly number[],
  options?: ReadOptions,
): Promise<Float32Array<ArrayBuffer>> {
  const tensors = sameTensors(experts, name)
  const parts: Part[] = []
  for (const [i, tensor] of tensors.entries()) {
    if (tensor !== undefined) parts.push(await readPart(experts[i], tensor, shares[i], options))
  }
  const sum = new Float32Array(weightsOf(tensors.find((tensor) => tensor !== undefined)!.shape))
  for (const part of parts) {
    part((index, value) => {
      sum[index] += value
    })
  }
  return method === 'ties' ? meanOfElected(sum, parts) : sum
}

/** What each expert's values are multiplied with before they are summed or voted on. */
export function sharesOf(weights: readonly number[], method: MergeMethod): readonly number[] {
  const total = method === 'average' ? weights.reduce((sum, weight) => sum + weight, 0) : 1
  return weights.map((weight) => weight / total)
}

/** The mean of the values that have the sign of `elected`, entry by entry. */
function meanOfElected(
  elected: Float32Array<ArrayBuffer>,
  parts: readonly Part[],
): Float32Array<ArrayBuffer> {
  const mean = new Float32Array(elected.length)
  const count = new Uint16Array(elected.length)
  for (const part of parts) {
    part((index, value) => {
      if (Math.sign(value) !== Math.sign(elected[index])) return
      mean[index] += value
      count[index]++
    })
  }
  for (let i = 0; i < mean.length; i++) if (count[i] > 1) mean[i] /= count[i]
  return mean
}

/** Visits the weighted values of one expert's tensor; of a ternary one, those that are not 0. */
type Part = (visit: (index: number, value: number) => void) => void

async function readPart(
  { source, head }: OpenExpert,
  tensor: TritTensor,
  weight: number,
  options?: ReadOptions,
): Promise<Part> {
  const section = await readSection(source, head, tensor, options)
  const entries = decodeEntries(tensor, section)
  if (entries === undefined) {
    const values = decodeValues(tensor, section)
    return (visit) => {
      for (let i = 0; i < values.length; i++) visit(i, weight * values[i])
    }
  }
  const { indices, negative, scale } = entries
  const value = weight * scale
  return (visit) => {
    for (let i = 0; i < indices.length; i++) visit(indices[i], negative[i] === 0 ? value : -value)
  }
}
