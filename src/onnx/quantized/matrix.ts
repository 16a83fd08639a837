import { ONNX_TYPE } from '../../format/dtype.ts'
import { MAX_BLOCK_SIZE, MIN_BLOCK_SIZE } from '../../format/index.ts'
import { operatorOf, type Product } from '../graph/operators.ts'
import type { QuantizedMatrix } from '../proto/initializer_data.ts'
import { intAttribute } from '../proto/nodes.ts'
import type { GraphProto, NodeProto, TensorProto } from '../proto/onnx_pb.ts'
import { type ExternalFiles, locateBytes, type RawInitializer } from '../proto/tensor_bytes.ts'
import { checkBytes, countOf, dimsOf, floatType } from '../proto/tensors.ts'

/**
 * The matrix, quantized by blocks, that a node multiplies with or looks up in; undefined if it is none, or one that
 * cannot be dequantized here.
 * @throws {TritswapError} `input` where the size of an initializer does not agree with its shape
 */
export function matrixOf(
  node: NodeProto,
  graph: GraphProto,
  initializers: ReadonlyMap<string, TensorProto>,
  external: ExternalFiles,
): QuantizedMatrix | undefined {
  const { product } = operatorOf(node)
  const blocks = product?.blocks
  if (product === undefined || blocks === undefined) return undefined
  // The columns are permuted (g_idx), which an affine layout cannot express.
  if (blocks.permutation !== undefined && node.input[blocks.permutation]) return undefined
  const name = node.input[product.weight]
  // The builder of onnxruntime-genai looks up in the reshaped weight of a tied head.
  const view = graph.node.find(({ opType, output }) => opType === 'Reshape' && output[0] === name)
  const isLookup = product.kind === 'embedding'
  const weights = initializers.get(isLookup ? (view?.input[0] ?? name) : name)
  const scales = initializers.get(node.input[blocks.scales])
  const zeroPointName = node.input[blocks.zeroPoints]
  const zeroPoints = zeroPointName ? initializers.get(zeroPointName) : undefined
  if (weights === undefined || scales === undefined || (zeroPointName && zeroPoints === undefined))
    return undefined
  const bits = intAttribute(node, 'bits') ?? 4
  const blockSize = intAttribute(node, 'block_size') ?? blocks.defaultBlockSize
  const sizes = sizesOf(node, product, weights, bits)
  if (sizes === undefined || !isWhole(sizes, { bits, blockSize, weights, scales, zeroPoints }))
    return undefined
  const isFloat = zeroPoints !== undefined && floatType(zeroPoints) !== undefined
  return {
    ...sizes,
    layout: isLookup ? 'checkpoint' : 'transposed',
    bits: bits as QuantizedMatrix['bits'],
    blockSize,
    dtype: floatType(scales) === 'float32' ? 'f32' : 'f16',
    ...(zeroPoints && { zeroPoints: isFloat ? 'float' : 'packed' }),
    components: {
      weights: rawInitializer(weights, external),
      scales: rawInitializer(scales, external),
      ...(zeroPoints && { zeroPoints: rawInitializer(zeroPoints, external) }),
    },
  }
}

function sizesOf(
  node: NodeProto,
  { kind }: Product,
  weights: TensorProto,
  bits: number,
): { rows: number; cols: number } | undefined {
  if (kind === 'linear') return { rows: intAttribute(node, 'N') ?? 0, cols: intAttribute(node, 'K') ?? 0 }
  const axis = intAttribute(node, 'quantize_axis') ?? 1
  if ((intAttribute(node, 'gather_axis') ?? 0) !== 0 || (axis !== 1 && axis !== -1)) return undefined
  const [rows] = dimsOf(weights)
  return { rows, cols: ((countOf(weights) / rows) * 8) / bits }
}

function rawInitializer(tensor: TensorProto, external: ExternalFiles): RawInitializer {
  const located = locateBytes(tensor, external)
  checkBytes(tensor, located.bytes)
  return located
}

interface Stored {
  bits: number
  blockSize: number
  weights: TensorProto
  scales: TensorProto
  zeroPoints?: TensorProto
}

/** Whether the sizes of all parts agree, and are ones that a weights file takes. */
function isWhole(
  { rows, cols }: { rows: number; cols: number },
  { bits, blockSize, weights, scales, zeroPoints }: Stored,
): boolean {
  if (rows < 1 || cols < 1 || !Number.isInteger(cols) || ![2, 4, 8].includes(bits)) return false
  if (blockSize % MIN_BLOCK_SIZE !== 0 || blockSize < MIN_BLOCK_SIZE || blockSize > MAX_BLOCK_SIZE)
    return false
  if (weights.dataType !== ONNX_TYPE.uint8 || floatType(scales) === undefined) return false
  const perRow = Math.ceil(cols / blockSize)
  if (countOf(weights) !== (rows * perRow * blockSize * bits) / 8 || countOf(scales) !== rows * perRow)
    return false
  if (zeroPoints === undefined) return true
  return zeroPoints.dataType === ONNX_TYPE.uint8
    ? countOf(zeroPoints) === rows * Math.ceil((perRow * bits) / 8)
    : zeroPoints.dataType === scales.dataType && countOf(zeroPoints) === rows * perRow
}
