import { formOf } from '../../format/codecs/index.ts'
import { nbitsLayout } from '../../format/codecs/nbits_decode.ts'
import { INPUT_DTYPE_OF } from '../../format/dtype.ts'
import { type HoistedInput, type Placement, tilingOf } from '../../format/index.ts'
import type { Reader } from '../graph/graph_index.ts'
import { operatorOf, type Product } from '../graph/operators.ts'
import { intAttribute } from '../proto/nodes.ts'
import type { NodeProto } from '../proto/onnx_pb.ts'
import { partOf, type WeightMatrix, weightMatrixOf } from '../resolve/weight_matrix.ts'
import type { Site, SitePart, SiteTensors } from './site.ts'

/** What of a site is known from one product with its weight. */
export type SiteWeight = Omit<Site, 'readsPrompt' | 'moduleNames' | 'bias' | 'hasFixedBias'>

/** The weight that a node takes a hoisted input for; undefined where nothing can be put beside it. */
export function weightAt(
  { node, position }: Reader,
  isTransposed: boolean,
  input: HoistedInput,
  tensors: SiteTensors,
): SiteWeight | undefined {
  const { product } = operatorOf(node)
  if (product === undefined || position !== product.weight) return undefined
  if ((product.blocks === undefined) !== (input.raw === undefined)) return undefined
  return input.raw === undefined
    ? floatWeight(node, isTransposed, input, tensors)
    : quantizedWeight(node, product, input, tensors)
}

function floatWeight(
  node: NodeProto,
  isTransposed: boolean,
  { name, dtype, dims, parts }: HoistedInput,
  tensors: SiteTensors,
): SiteWeight | undefined {
  const matrix = weightMatrixOf(node, dims, isTransposed)
  if (matrix === undefined || (matrix.kind !== 'linear' && isTransposed)) return undefined
  const found = parts.flatMap((part) => floatPart(matrix, part, tensors) ?? [])
  if (found.length !== parts.length) return undefined
  const { kind, inputs, outputs, kernel } = matrix
  return {
    key: `${name}:${kind}${isTransposed ? ':transposed' : ''}`,
    weight: name,
    kind,
    dtype: dtype as Site['dtype'],
    inputs,
    outputs,
    ...(kernel && { kernel }),
    quantized: false,
    parts: found,
  }
}

function floatPart(matrix: WeightMatrix, part: Placement, tensors: SiteTensors): SitePart | undefined {
  const tensor = tensors.get(part.tensor)
  const lies = tensor && partOf(matrix, part, tensor.shape)
  if (tensor === undefined || lies === undefined) return undefined
  const { rows, cols } = tilingOf(tensor.shape)
  return { target: tensor.target, rows, cols, ...lies }
}

/** A matrix that the graph takes quantized by blocks. */
function quantizedWeight(
  node: NodeProto,
  { kind }: Product,
  { name, parts }: HoistedInput,
  tensors: SiteTensors,
): SiteWeight | undefined {
  const found = parts.flatMap((part) => quantizedPart(part, tensors) ?? [])
  if (found.length !== parts.length) return undefined
  const [{ part, dtype }] = found
  const common = { key: `${name}:${kind}`, weight: name, kind, dtype, quantized: true }
  if (kind === 'linear') {
    const inputs = intAttribute(node, 'K') ?? 0
    const outputs = intAttribute(node, 'N') ?? 0
    return { ...common, inputs, outputs, parts: found.map((each) => each.part) }
  }
  if (found.length > 1 || part.transposed) return undefined
  const whole = { ...part, firstOutput: 0, transposed: true }
  return { ...common, inputs: part.rows, outputs: part.cols, parts: [whole] }
}

/** Bytes of a quantized tensor are rows of the quantized matrix, one after another. */
function quantizedPart(
  { tensor, offset }: Placement,
  tensors: SiteTensors,
): { part: SitePart; dtype: Site['dtype'] } | undefined {
  const found = tensors.get(tensor)
  const form = found && formOf(found)
  if (found === undefined || form?.kind !== 'nbits') return undefined
  const { rows, cols } = tilingOf(found.shape)
  const { rowLength } = nbitsLayout(found.shape, form.code).components.weights
  const firstOutput = offset / rowLength
  const transposed = form.code.transposed === true
  return {
    part: { target: found.target, rows, cols, firstOutput, transposed },
    dtype: INPUT_DTYPE_OF[form.code.dtype],
  }
}
