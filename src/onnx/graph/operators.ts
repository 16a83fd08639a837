/**
 * What operators read their weights for: the one place that knows them. Names, quantized weights, hoisting and bypasses
 * all follow this table, so an operator that it lacks is one entry more. Inputs go by their position.
 *
 * Sources: onnx/docs/Operators.md, and ContribOperators.md of onnxruntime for those of `com.microsoft`.
 *
 * @module
 */
import type { Layout } from '../proto/initializer_data.ts'
import { floatAttribute, intAttribute } from '../proto/nodes.ts'
import type { NodeProto } from '../proto/onnx_pb.ts'

/** `linear`: y = x·Wᵀ. `embedding`: y = rows of W. `conv`: a kernel at each position. */
export type ProductKind = 'linear' | 'embedding' | 'conv'

/** How an operator multiplies with a weight, or looks up in it. */
export interface Product {
  kind: ProductKind
  weight: number
  /** What is multiplied: features, or the tokens of an embedding. */
  data: number
  /** A bias of its own. */
  bias?: number
  /** How a node wants the weight of a checkpoint: as it is there, or transposed. */
  layout(node: NodeProto): Layout
  /** Whether a node computes the product with its bias and nothing else; by default it does. */
  isPlain?(node: NodeProto): boolean
  /** The weight is quantized by blocks of one row. */
  blocks?: {
    scales: number
    zeroPoints: number
    /** A permutation of the columns. */
    permutation?: number
    defaultBlockSize: number
    /** The operator that does the same with floats. */
    float: string
  }
}

/** A bias that an operator adds to other inputs before its own work: it is of the linear whose output comes in there. */
export interface FusedBias {
  bias: number
  /** Inputs that it is added to. Where there are several of a `concat`, each takes its share of the bias. */
  to: readonly number[]
  concat?: true
}

export interface Operator {
  /** Inputs that are trained values. */
  trained?: Readonly<Record<number, 'weight' | 'bias'>>
  product?: Product
  fusedBias?: FusedBias
  /** Its weights are integers, which a merge cannot change. */
  quantized?: true
  /** The float operator that it does with integers, between a DynamicQuantizeLinear and a Cast. */
  integers?: { float: string; weight: number; zeroPoint: number }
  /** Its constants say how to compute, or hold a weight in other numbers: none is a parameter, whatever its name. */
  settings?: true
  /** Attributes with its numbers of heads: what a fused projection before it splits by. */
  heads?: { query: string; keyValue: string }
  /**
   * It is its own projection too: the weights of q, k and v side by side, as a MatMul wants them, and their biases. Of the operator of
   * `com.microsoft`, not of ONNX's own of the same name.
   */
  packed?: { weight: number; bias: number; sizes: string }
  /** Exporters multiply the batch norm that follows into its weight and bias. */
  absorbsNorm?: true
  /** It changes only how a value is looked at: order or names of dimensions, their number, or the type. */
  view?: 'order' | 'rank' | 'type'
}

/** Transposed by MatMul and its like, which multiply with [in, out]. */
const inByOut = (): Layout => 'transposed'
const asInCheckpoint = (): Layout => 'checkpoint'
const byTransB = (node: NodeProto): Layout =>
  intAttribute(node, 'transB') === 1 ? 'checkpoint' : 'transposed'
/** Neither input is transposed or scaled on the way. */
const isPlainGemm = (node: NodeProto): boolean =>
  intAttribute(node, 'transA') !== 1 &&
  (floatAttribute(node, 'alpha') ?? 1) === 1 &&
  (floatAttribute(node, 'beta') ?? 1) === 1
const never = (): boolean => false

const WEIGHT = { 1: 'weight' } as const
const WEIGHT_AND_BIAS = { 1: 'weight', 2: 'bias' } as const
const GEMM: Product = { kind: 'linear', weight: 1, data: 0, bias: 2, layout: byTransB, isPlain: isPlainGemm }
const CONV: Product = { kind: 'conv', weight: 1, data: 0, bias: 2, layout: asInCheckpoint }

const OPERATORS: Readonly<Record<string, Operator>> = {
  // Products and lookups.
  MatMul: {
    trained: { 0: 'weight', 1: 'weight' },
    product: { kind: 'linear', weight: 1, data: 0, layout: inByOut },
  },
  FusedMatMul: {
    trained: WEIGHT,
    product: {
      kind: 'linear',
      weight: 1,
      data: 0,
      layout: byTransB,
      isPlain: (node) =>
        isPlainGemm(node) &&
        intAttribute(node, 'transBatchA') !== 1 &&
        intAttribute(node, 'transBatchB') !== 1,
    },
  },
  Gemm: { trained: WEIGHT_AND_BIAS, product: GEMM, absorbsNorm: true },
  // An activation follows inside of the operator.
  FusedGemm: { trained: WEIGHT_AND_BIAS, product: { ...GEMM, isPlain: never } },
  Conv: { trained: WEIGHT_AND_BIAS, product: CONV, absorbsNorm: true },
  FusedConv: { trained: WEIGHT_AND_BIAS, product: { ...CONV, isPlain: never }, absorbsNorm: true },
  ConvTranspose: { trained: WEIGHT_AND_BIAS, absorbsNorm: true },
  Gather: {
    trained: { 0: 'weight' },
    product: {
      kind: 'embedding',
      weight: 0,
      data: 1,
      layout: asInCheckpoint,
      isPlain: (node) => (intAttribute(node, 'axis') ?? 0) === 0,
    },
  },

  // The same with weights that are quantized by blocks.
  MatMulNBits: {
    trained: { 5: 'bias' },
    product: {
      kind: 'linear',
      weight: 1,
      data: 0,
      bias: 5,
      layout: asInCheckpoint,
      blocks: { scales: 2, zeroPoints: 3, permutation: 4, defaultBlockSize: 0, float: 'MatMul' },
    },
    quantized: true,
  },
  GatherBlockQuantized: {
    product: {
      kind: 'embedding',
      weight: 0,
      data: 1,
      layout: asInCheckpoint,
      blocks: { scales: 2, zeroPoints: 3, defaultBlockSize: 128, float: 'Gather' },
    },
    quantized: true,
  },
  MatMulBnb4: { quantized: true },

  // The same with weights that are integers.
  MatMulInteger: {
    integers: { float: 'MatMul', weight: 1, zeroPoint: 3 },
    quantized: true,
    settings: true,
  },
  ConvInteger: { integers: { float: 'Conv', weight: 1, zeroPoint: 3 }, quantized: true, settings: true },
  DynamicQuantizeMatMul: { quantized: true },
  QLinearConv: { quantized: true, settings: true },
  QLinearMatMul: { quantized: true, settings: true },
  QAttention: { quantized: true },
  QGemm: { quantized: true },
  MatMulIntegerToFloat: { quantized: true },
  DequantizeLinear: { settings: true },
  QuantizeLinear: { settings: true },

  // Embeddings of words, positions and segments with the norm of their sum.
  EmbedLayerNormalization: {
    trained: { 2: 'weight', 3: 'weight', 4: 'weight', 5: 'weight', 6: 'bias' },
  },

  // Norms.
  LayerNormalization: { trained: WEIGHT_AND_BIAS },
  SimplifiedLayerNormalization: { trained: WEIGHT },
  RMSNormalization: { trained: WEIGHT },
  BatchNormalization: { trained: WEIGHT_AND_BIAS },
  InstanceNormalization: { trained: WEIGHT_AND_BIAS },
  GroupNormalization: { trained: WEIGHT_AND_BIAS },
  GroupNorm: { trained: WEIGHT_AND_BIAS },
  SkipLayerNormalization: { trained: { 2: 'weight', 3: 'bias' }, fusedBias: { bias: 4, to: [0, 1] } },
  SkipSimplifiedLayerNormalization: { trained: { 2: 'weight' }, fusedBias: { bias: 3, to: [0, 1] } },
  SkipGroupNorm: { fusedBias: { bias: 4, to: [0, 3] } },

  // Activations that took in the bias of the linear before them.
  BiasGelu: { trained: { 1: 'bias' }, fusedBias: { bias: 1, to: [0] } },
  FastGelu: { trained: { 1: 'bias' }, fusedBias: { bias: 1, to: [0] } },
  BiasSplitGelu: { fusedBias: { bias: 1, to: [0] } },
  BiasAdd: { fusedBias: { bias: 1, to: [0] } },

  // Attention, which may have taken in the biases of the projections before it.
  Attention: {
    heads: { query: 'q_num_heads', keyValue: 'kv_num_heads' },
    packed: { weight: 1, bias: 2, sizes: 'qkv_hidden_sizes' },
  },
  // Sinks of its heads, and norms of queries and keys.
  GroupQueryAttention: {
    trained: { 11: 'bias', 14: 'weight', 15: 'weight' },
    heads: { query: 'num_heads', keyValue: 'kv_num_heads' },
  },
  SparseAttention: { heads: { query: 'num_heads', keyValue: 'kv_num_heads' } },
  MultiHeadAttention: {
    heads: { query: 'num_heads', keyValue: 'num_heads' },
    fusedBias: { bias: 3, to: [0, 1, 2], concat: true },
  },
  DecoderMaskedMultiHeadAttention: { fusedBias: { bias: 10, to: [0, 1, 2], concat: true } },
  PackedMultiHeadAttention: { fusedBias: { bias: 3, to: [0, 1, 2], concat: true } },

  // Scales and shifts.
  Mul: { trained: { 0: 'weight', 1: 'weight' } },
  Add: { trained: { 0: 'bias', 1: 'bias' } },

  // Views.
  Transpose: { view: 'order' },
  Reshape: { view: 'order' },
  Identity: { view: 'order' },
  Squeeze: { view: 'rank' },
  Unsqueeze: { view: 'rank' },
  Cast: { view: 'type' },

  // Constants that say how to compute.
  Clip: { settings: true },
  ConstantOfShape: { settings: true },
  OneHot: { settings: true },
  Pad: { settings: true },
  Range: { settings: true },
  Resize: { settings: true },
  Upsample: { settings: true },
}

const UNKNOWN: Operator = {}

/** What is known of the operator of a node. */
export function operatorOf({ opType }: Pick<NodeProto, 'opType'>): Operator {
  return Object.hasOwn(OPERATORS, opType) ? OPERATORS[opType] : UNKNOWN
}

/** An operator of ONNX itself: those of other domains have inputs for tables, scales and the like. */
export function isStandard({ domain }: Pick<NodeProto, 'domain'>): boolean {
  return domain === '' || domain === 'ai.onnx'
}

/** Names of nodes whose weights are quantized. */
export function quantizedNodes(nodes: readonly NodeProto[]): string[] {
  return nodes.filter((node) => operatorOf(node).quantized).map(({ name }) => name)
}
