/**
 * Where a graph multiplies with weights that experts may change, so that something can be put beside them. The sites
 * of a hoisted graph follow from the graph and its binding table alone.
 *
 * @module
 */
import {
  blocksLayout,
  type HoistedInput,
  type Placement,
  type TritTensor,
  tilingOf,
} from '../../format/index.ts'
import { type GraphIndex, indexGraph, intAttribute, type Use } from '../graph/graph_index.ts'
import type { GraphProto, NodeProto } from '../proto/onnx_pb.ts'
import {
  dequantizedChain,
  type IntegerProduct,
  type IntegerSite,
  integerProduct,
} from '../quantized/integers.ts'
import { moduleOfNode } from '../resolve/names.ts'

/** `linear`: y = x·Wᵀ. `embedding`: y = rows of W. `conv`: a kernel over places. */
export type SiteKind = 'linear' | 'embedding' | 'conv'

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

/** One weight with all places that use it in one way. */
export interface Site {
  /** Of its own in the graph. */
  key: string
  /** The graph input that feeds the weight, or the first of its components. */
  weight: string
  kind: SiteKind
  /** Of what goes in and comes out. */
  dtype: 'float32' | 'float16'
  /** Columns of the weight as [outputs, inputs]: features, tokens of a vocabulary, channels × places of a kernel. */
  inputs: number
  outputs: number
  /** `conv` only: the kernel's shape behind its outputs. */
  kernel?: readonly number[]
  /** The weight is not in float buffers, so no merge reaches it. */
  quantized: boolean
  parts: readonly SitePart[]
  /** Modules whose products or lookups these are: several share the weight if it is tied. */
  modules: readonly string[]
  /** Bias tensors that are added to its outputs before anything else happens to them, where all places agree. */
  bias: readonly { target: string; firstOutput: number; outputs: number }[]
}

/** A place in one parsed graph. */
export interface SiteOccurrence {
  graph: GraphProto
  /** What reads the float input, and its slot. */
  readers: readonly Use[]
  /** The float input: features, or the tokens of an embedding. */
  input: string
  /** The product with its bias on, and the node that makes it. */
  output: string
  maker: NodeProto
  /** The node with the attributes of a convolution. */
  node: NodeProto
  /** Between a lookup and its output: how its values are turned. */
  views: readonly NodeProto[]
  /** A product of integers, whose input is quantized on the way: another one needs a quantization of its own. */
  product?: IntegerProduct
}

export interface FoundSite extends Site {
  places: SiteOccurrence[]
}

/** What of the tensors in a container decides how they lie in a site. */
export type SiteTensors = ReadonlyMap<string, TritTensor>

/** Operators that show a weight from another side on its way to the site. */
const TURNS = new Set(['Transpose', 'Identity', 'Reshape'])

/**
 * @param main - a hoisted graph
 * @param inputs - its hoisted inputs
 * @param tensors - those of the container, by name
 * @param integers - what the graph says of weights that stay integers in it
 */
export function findSites(
  main: GraphProto,
  inputs: readonly HoistedInput[],
  tensors: SiteTensors,
  integers: readonly IntegerSite[] = [],
): FoundSite[] {
  const index = indexGraph(main)
  const vectors = new Map(inputs.map((input) => [input.name, input]))
  const sites = new Map<string, FoundSite>()
  for (const input of inputs) {
    if (input.raw !== undefined && input.raw !== 'weights') continue
    const ends = endsOf(index, main, input.name).map((end) => ({ end, found: siteAt(end, input, tensors) }))
    // What is beside some uses of a weight and not beside others would be half of a change.
    if (ends.some(({ found }) => found === undefined)) continue
    for (const { end, found } of ends as { end: End; found: NonNullable<(typeof ends)[0]['found']> }[]) {
      const place = withBias(index, spanOf(end), vectors)
      const bias = biasOf(place.bias, vectors, tensors)
      const known = sites.get(found.key)
      if (known === undefined) sites.set(found.key, { ...found, modules: [], bias, places: [place.place] })
      else {
        known.places.push(place.place)
        if (JSON.stringify(known.bias) !== JSON.stringify(bias)) known.bias = []
      }
    }
  }
  for (const site of integers) {
    const places = index.graphs.flatMap((graph) => integerPlace(graph, site, index.graphs) ?? [])
    if (places.length === 0) continue
    const found = places.map((place) => withBias(index, place, vectors))
    const biases = found.map(({ bias }) => biasOf(bias, vectors, tensors))
    const same = biases.every((bias) => JSON.stringify(bias) === JSON.stringify(biases[0]))
    const key = `${site.weight}:${site.kind}`
    const known = sites.get(key)
    if (known !== undefined) {
      known.places.push(...found.map(({ place }) => place))
      continue
    }
    const { kind, dims, weight, parts } = site
    const size = dims.slice(1).reduce((product, length) => product * length, 1)
    sites.set(key, {
      key,
      weight,
      kind,
      dtype: 'float32',
      quantized: true,
      ...(kind === 'conv'
        ? { inputs: size, outputs: dims[0], kernel: dims.slice(1) }
        : { inputs: dims[0], outputs: size }),
      parts: parts.map(({ target, shape, firstOutput, transposed }) => {
        const { rows, cols } = tilingOf(shape)
        return { target, rows, cols, firstOutput, transposed }
      }),
      modules: [],
      bias: same ? biases[0] : [],
      places: found.map(({ place }) => place),
    })
  }
  for (const site of sites.values())
    site.modules = [...new Set(site.places.flatMap(({ node }) => moduleOfNode(node) ?? []))]
  return [...sites.values()]
}

/** Where a graph has the product with a weight of integers. */
function integerPlace(
  graph: GraphProto,
  { output }: IntegerSite,
  graphs: readonly GraphProto[],
): SiteOccurrence | undefined {
  const maker = graph.node.find((node) => node.output.includes(output))
  if (maker === undefined) return undefined
  const common = { graph, output, maker, views: [] }
  const at = (node: NodeProto, slot: number) => ({
    readers: [{ node, slot, graph }],
    input: node.input[slot],
  })
  if (maker.opType === 'MatMul') return { ...common, ...at(maker, 0), node: maker }
  if (maker.opType === 'DequantizeLinear') {
    const [gather, ...views] = dequantizedChain(graph, maker)
    return gather?.opType === 'Gather' ? { ...common, ...at(gather, 1), node: gather, views } : undefined
  }
  for (const node of graph.node) {
    const product = integerProduct(graph, node, graphs)
    if (product?.scale === maker) return { ...common, ...at(product.quantize, 0), node, product }
  }
  return undefined
}

interface End extends Use {
  transposed: boolean
}

/** Readers of a hoisted input behind the views of it. */
function endsOf(index: GraphIndex, graph: GraphProto, value: string, transposed = false): End[] {
  return index.readersOf(graph, value).flatMap((use) => {
    if (!TURNS.has(use.node.opType) || use.slot !== 0) return [{ ...use, transposed }]
    return endsOf(
      index,
      use.graph,
      use.node.output[0],
      use.node.opType === 'Transpose' ? !transposed : transposed,
    )
  })
}

/** What one reader makes of a weight; undefined where nothing can be put beside it. */
function siteAt(
  { node, slot, transposed }: End,
  input: HoistedInput,
  tensors: SiteTensors,
): Omit<FoundSite, 'places' | 'bias' | 'modules'> | undefined {
  const { dims, parts, name } = input
  if (input.raw !== undefined) return quantizedSiteAt(node, slot, input, tensors)
  const common = { weight: name, dtype: input.dtype as Site['dtype'], quantized: false }
  // Steps in the buffer from one output to the next, and from one input to the next.
  const placed = (down: number, right: number) => {
    const found = parts.map((part) => floatPart(part, down, right, tensors))
    return found.every((part) => part !== undefined) ? (found as SitePart[]) : undefined
  }
  if (node.opType === 'Conv' && slot === 1 && !transposed && dims.length > 2) {
    const size = dims.slice(1).reduce((product, length) => product * length, 1)
    const own = placed(size, 1)
    return (
      own && {
        ...common,
        key: `${name}:conv`,
        kind: 'conv',
        inputs: size,
        outputs: dims[0],
        kernel: dims.slice(1),
        parts: own,
      }
    )
  }
  if (dims.length !== 2) return undefined
  if (node.opType === 'Gather' && slot === 0 && !transposed && (intAttribute(node, 'axis') ?? 0) === 0) {
    const own = placed(1, dims[1])
    return (
      own && {
        ...common,
        key: `${name}:embedding`,
        kind: 'embedding',
        inputs: dims[0],
        outputs: dims[1],
        parts: own,
      }
    )
  }
  const isGemm = node.opType === 'Gemm' && isPlainGemm(node)
  if (!(isGemm || node.opType === 'MatMul') || slot !== 1) return undefined
  const outFirst = transposed !== (isGemm && intAttribute(node, 'transB') === 1)
  const [outputs, inputs] = outFirst ? dims : [dims[1], dims[0]]
  const own = outFirst ? placed(inputs, 1) : placed(1, outputs)
  return (
    own && {
      ...common,
      key: `${name}:linear${transposed ? ':transposed' : ''}`,
      kind: 'linear',
      inputs,
      outputs,
      parts: own,
    }
  )
}

/** A matrix of which the graph has quantized blocks in an input. */
function quantizedSiteAt(
  node: NodeProto,
  slot: number,
  { name, parts }: HoistedInput,
  tensors: SiteTensors,
): Omit<FoundSite, 'places' | 'bias' | 'modules'> | undefined {
  const isLinear = node.opType === 'MatMulNBits' && slot === 1
  const isLookup = node.opType === 'GatherBlockQuantized' && slot === 0
  const placed = parts.flatMap((part) => rawPart(part, tensors) ?? [])
  if (!(isLinear || isLookup) || placed.length !== parts.length) return undefined
  const common = {
    weight: name,
    dtype: placed[0].dtype === 'f16' ? ('float16' as const) : ('float32' as const),
    quantized: true,
  }
  if (isLinear) {
    return {
      ...common,
      key: `${name}:linear`,
      kind: 'linear',
      inputs: intAttribute(node, 'K') ?? 0,
      outputs: intAttribute(node, 'N') ?? 0,
      parts: placed.map(({ part }) => part),
    }
  }
  const [{ part }] = placed
  if (placed.length > 1 || part.transposed) return undefined
  return {
    ...common,
    key: `${name}:embedding`,
    kind: 'embedding',
    inputs: part.rows,
    outputs: part.cols,
    parts: [{ ...part, firstOutput: 0, transposed: true }],
  }
}

function isPlainGemm(node: NodeProto): boolean {
  const factor = (name: string) => node.attribute.find((attribute) => attribute.name === name)?.f ?? 1
  return intAttribute(node, 'transA') !== 1 && factor('alpha') === 1 && factor('beta') === 1
}

function floatPart(
  { tensor, offset, rowStride, colStride }: Placement,
  down: number,
  right: number,
  tensors: SiteTensors,
): SitePart | undefined {
  const found = tensors.get(tensor)
  if (found === undefined) return undefined
  const { rows, cols } = tilingOf(found.shape)
  const lies = (rowStep: number, colStep: number) =>
    (rows === 1 || rowStride === rowStep) && (cols === 1 || colStride === colStep)
  const transposed = !lies(down, right)
  if (transposed && !lies(right, down)) return undefined
  const firstOutput = offset / down
  return Number.isInteger(firstOutput)
    ? { target: found.target, rows, cols, firstOutput, transposed }
    : undefined
}

/** Bytes of a quantized tensor are rows of the quantized matrix, one behind the other. */
function rawPart(
  { tensor, offset }: Placement,
  tensors: SiteTensors,
): { part: SitePart; dtype: 'f16' | 'f32' } | undefined {
  const found = tensors.get(tensor)
  if (found?.codec !== 'blocks') return undefined
  const { rows, cols } = tilingOf(found.shape)
  const { rowLength } = blocksLayout(found.shape, found).components.weights
  const part = {
    target: found.target,
    rows,
    cols,
    firstOutput: offset / rowLength,
    transposed: found.transposed === true,
  }
  return { part, dtype: found.dtype }
}

/** Slots in which operators take their own bias. */
const BIAS_SLOT: Readonly<Record<string, number>> = { Gemm: 2, Conv: 2, MatMulNBits: 5 }

function spanOf({ node, graph, slot }: Use): SiteOccurrence {
  const inputSlot = slot === 0 ? 1 : 0
  return {
    graph,
    readers: [{ node, slot: inputSlot, graph }],
    input: node.input[inputSlot],
    output: node.output[0],
    maker: node,
    node,
    views: [],
  }
}

/** Follows a product to the addition of its bias. */
function withBias(
  index: GraphIndex,
  place: SiteOccurrence,
  vectors: ReadonlyMap<string, HoistedInput>,
): { place: SiteOccurrence; bias?: string } {
  const { node, graph } = place
  const own = node.input[BIAS_SLOT[node.opType] ?? -1]
  if (own || node.opType === 'Gather') return { place, bias: own }
  const isResult = graph.output.some(({ name }) => name === place.output)
  const readers = index.readersOf(graph, place.output)
  const [add] = readers
  if (isResult || readers.length !== 1 || add.node.opType !== 'Add' || add.graph !== graph) return { place }
  const bias = add.node.input[1 - add.slot]
  const isVector = vectors.get(bias)?.dims.length === 1
  return isVector ? { place: { ...place, output: add.node.output[0], maker: add.node }, bias } : { place }
}

function biasOf(
  bias: string | undefined,
  vectors: ReadonlyMap<string, HoistedInput>,
  tensors: SiteTensors,
): Site['bias'] {
  const parts = (bias && vectors.get(bias)?.parts) || []
  return parts.flatMap(({ tensor, offset, colStride }) => {
    const found = tensors.get(tensor)
    if (found === undefined || colStride !== 1) return []
    const { rows, cols } = tilingOf(found.shape)
    return rows === 1 ? [{ target: found.target, firstOutput: offset, outputs: cols }] : []
  })
}
