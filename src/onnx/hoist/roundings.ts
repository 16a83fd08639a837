import type { Placement } from '../../format/index.ts'
import type { InitializerData } from '../proto/initializer_data.ts'
import type { ResolvedParameter } from '../resolve/resolution.ts'
import { rowsOf, type TensorRows } from './tensor_rows.ts'

/** A tensor of the weights file. */
export interface HoistedTensor {
  shape: readonly number[]
  /** The checkpoint tensor that it is: its own name, unless it is another rounding of one that is there as well. */
  target: string
  /** The first initializer that holds it: others hold the same values. */
  home: { data: InitializerData; part: Placement }
  /** What it is quantized as; undefined for float weights. */
  quantized?: TensorRows
}

/**
 * Where a tied tensor is quantized on one side only, or in two ways, each initializer keeps its own values: the first of
 * a kind is the checkpoint's tensor, others become tensors of their own with that as their target, so that an expert
 * still changes all.
 * @returns the parameters, made of such tensors, and the tensors in order of first use
 */
export function separateRoundings(parameters: readonly ResolvedParameter[]): {
  parameters: ResolvedParameter[]
  tensors: Map<string, HoistedTensor>
} {
  const names = namesByKind(parameters)
  const tensors = new Map<string, HoistedTensor>()
  const separate = parameters.map((entry): ResolvedParameter => {
    const { data } = entry
    const shapes = new Map(entry.shapes)
    const parts = entry.parts.map((part) => {
      const target = part.tensor
      const shape = entry.shapes.get(target)!
      const tensor = names.get(target)!.get(kindOf(data))!
      shapes.set(tensor, shape)
      const quantized = data.matrix && rowsOf(data.matrix, shape, part)
      if (!tensors.has(tensor)) tensors.set(tensor, { shape, target, home: { data, part }, quantized })
      return { ...part, tensor }
    })
    return { ...entry, parts, shapes }
  })
  return { parameters: separate, tensors }
}

/** Names of the roundings of each checkpoint tensor, by the kind of rounding. */
function namesByKind(parameters: readonly ResolvedParameter[]): Map<string, Map<string, string>> {
  const byTarget = new Map<string, Map<string, string>>()
  // Exact values take the name where there are any.
  const exactFirst = [...parameters].sort((a, b) => Number(!!a.data.matrix) - Number(!!b.data.matrix))
  for (const { data, parts, parameter } of exactFirst) {
    for (const { tensor: target } of parts) {
      const names = byTarget.get(target) ?? new Map<string, string>()
      byTarget.set(target, names)
      const kind = kindOf(data)
      if (!names.has(kind)) names.set(kind, names.size === 0 ? target : `${target}@${parameter.tensor.name}`)
    }
  }
  return byTarget
}

/** Equal for initializers that hold the same values of a tensor. */
function kindOf({ matrix }: InitializerData): string {
  if (matrix === undefined) return ''
  const { bits, blockSize, dtype, zeroPoints } = matrix
  return [bits, blockSize, dtype, zeroPoints].join()
}
