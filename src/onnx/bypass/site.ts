import type { FloatInputDtype } from '../../format/dtype.ts'
import type { TritTensor } from '../../format/index.ts'
import type { Reader } from '../graph/graph_index.ts'
import type { ProductKind } from '../graph/operators.ts'
import type { GraphProto, NodeProto } from '../proto/onnx_pb.ts'
import type { IntegerProduct } from '../quantized/integer_product.ts'

/** `cache`: what a layer keeps of the tokens that it reads. */
export type SiteKind = ProductKind | 'cache'

/** A checkpoint tensor in the weight of a site, seen as a matrix [outputs, inputs]. */
export interface SitePart {
  target: string
  /** Its checkpoint matrix. */
  rows: number
  cols: number
  /** Output of the site that its first one is. */
  firstOutput: number
  /** Its rows are inputs: Conv1D modules and embeddings keep [in, out]. */
  transposed: boolean
}

/** A bias tensor that is added to outputs of a site. */
export interface SiteBias {
  target: string
  firstOutput: number
  outputs: number
}

/**
 * One weight and all products with it, or all lookups in it: what a bypass can be put beside. The sites of a hoisted
 * graph follow from the graph and its binding table alone.
 */
export interface Site {
  /** Unique in the graph. */
  key: string
  /** The graph input that feeds the weight, or the first of its components; of a cache the one that takes it. */
  weight: string
  kind: SiteKind
  /** Of the values that go in and come out. */
  dtype: FloatInputDtype
  /** Columns of the weight as [outputs, inputs]: features, tokens of a vocabulary, channels × positions of a kernel; of a cache heads, and the size of one. */
  inputs: number
  outputs: number
  /** `conv` only: the kernel's shape without its outputs. */
  kernel?: readonly number[]
  /** The weight is not in float buffers, so no merge reaches it. */
  quantized: boolean
  parts: readonly SitePart[]
  /** All of its lookups are of the ids of a prompt. */
  readsPrompt: boolean
  /** Names of the modules that do these products or lookups: several share the weight if it is tied. */
  moduleNames: readonly string[]
  /** Biases that are added to its outputs before anything else happens to them, where all occurrences agree. */
  bias: readonly SiteBias[]
  /** A bias that is not a tensor of the container is added to its outputs: what scales the outputs must scale it there. */
  hasFixedBias: boolean
}

/** A bias where a fused operator reads it. */
export interface FusedBiasInput {
  node: NodeProto
  position: number
  /** Elements of the bias, and the first of those that are added to the product. */
  length: number
  first: number
}

/** One product of a site, or lookup, in a parsed graph. */
export interface SiteOccurrence {
  graph: GraphProto
  /** What reads the float input. */
  readers: readonly Reader[]
  /** The float input: features, or the tokens of an embedding. */
  input: string
  /** The product with its bias added. */
  output: string
  /** The node that makes the output. */
  maker: NodeProto
  /** The node with the attributes of a convolution. */
  node: NodeProto
  /** Between a lookup and its output: views that its values go through. */
  views: readonly NodeProto[]
  /** Behind a lookup, where other rows go: what its module makes of the weight's alone, and the node that does. */
  scaled?: { output: string; maker: NodeProto }
  /** An operator that follows the product adds the bias of the product's module before its own work. */
  fusedBias?: FusedBiasInput
  /** A product of integers, whose input is quantized on the way: another one needs a quantization of its own. */
  product?: IntegerProduct
}

export interface FoundSite extends Site {
  occurrences: readonly SiteOccurrence[]
}

/** The tensors of a container by name, which decide how they lie in a site. */
export type SiteTensors = ReadonlyMap<string, TritTensor>
