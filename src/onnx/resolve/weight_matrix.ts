import { type Placement, weightsOf } from '../../format/index.ts'
import { operatorOf, type ProductKind } from '../graph/operators.ts'
import type { NodeProto } from '../proto/onnx_pb.ts'
import { layoutIn } from './placements.ts'

/** The weight of a product as a matrix [outputs, inputs]. */
export interface WeightMatrix {
  kind: ProductKind
  /** Features, tokens of a vocabulary, or channels × positions of a kernel. */
  inputs: number
  outputs: number
  /** `conv` only: the kernel's shape without its outputs. */
  kernel?: readonly number[]
  /** Elements from one output to the next in the weight's buffer. */
  outputStep: number
  /** Elements from one input to the next. */
  inputStep: number
}

/**
 * @param dims - of the weight in its buffer
 * @param isTransposed - on the way from there to the node
 * @returns undefined where the node computes something else than a product
 */
export function weightMatrixOf(
  node: NodeProto,
  dims: readonly number[],
  isTransposed: boolean,
): WeightMatrix | undefined {
  const { product } = operatorOf(node)
  if (product === undefined || !(product.isPlain?.(node) ?? true)) return undefined
  const { kind } = product
  if (kind === 'conv') {
    if (dims.length < 3 || isTransposed) return undefined
    const kernel = dims.slice(1)
    const inputs = weightsOf(kernel)
    return { kind, inputs, outputs: dims[0], kernel, outputStep: inputs, inputStep: 1 }
  }
  if (dims.length !== 2) return undefined
  const [rows, cols] = dims
  const isOutputsFirst = isTransposed !== (kind === 'linear' && product.layout(node) === 'checkpoint')
  return isOutputsFirst
    ? { kind, inputs: cols, outputs: rows, outputStep: cols, inputStep: 1 }
    : { kind, inputs: rows, outputs: cols, outputStep: 1, inputStep: cols }
}

/** Where a tensor lies in a weight; undefined where it does not lie along its outputs and inputs. */
export function partOf(
  { outputStep, inputStep }: WeightMatrix,
  placement: Placement,
  shape: readonly number[],
): { firstOutput: number; transposed: boolean } | undefined {
  const layout = layoutIn(placement, shape, outputStep, inputStep)
  const firstOutput = placement.offset / outputStep
  if (layout === undefined || !Number.isInteger(firstOutput)) return undefined
  return { firstOutput, transposed: layout === 'transposed' }
}
