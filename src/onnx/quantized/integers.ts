/**
 * Weights that operators take as integers (q8: DynamicQuantizeLinear with MatMulInteger or ConvInteger, and
 * DequantizeLinear). They stay in their graph, where no merge reaches them; what they are called and where their
 * products are is written into the graph, so that experts can be put beside them.
 *
 * @module
 */
import { create } from '@bufbuild/protobuf'
import { array, integer, object, oneOf, shapeOf, text } from '../../format/fields.ts'
import { halvesToFloats } from '../../format/float16.ts'
import {
  MAX_PARTS,
  MAX_RANK,
  MAX_TENSOR_WEIGHTS,
  SKETCH_VALUES,
  sketchPositions,
  tilingOf,
  weightsOf,
} from '../../format/index.ts'
import { indexGraph, liftConstants } from '../graph/graph_index.ts'
import {
  dimsOf,
  type ExternalFiles,
  floatType,
  type InitializerData,
  initializerData,
  locateBytes,
  readElements,
} from '../proto/initializer.ts'
import { parseModel } from '../proto/model.ts'
import {
  type GraphProto,
  type ModelProto,
  type NodeProto,
  NodeProtoSchema,
  StringStringEntryProtoSchema,
  type TensorProto,
  TensorProto_DataType,
  TensorProtoSchema,
} from '../proto/onnx_pb.ts'
import type { Checkpoint } from '../resolve/checkpoint.ts'
import { endsOf, findParameters } from '../resolve/parameters.ts'
import { type LocatedParameter, type ResolvedParameter, resolveParameters } from '../resolve/resolve.ts'
import { dequantize } from './dequantize.ts'

/** One graph of a model as it lies in its folder. */
interface IntegerGraph {
  file: string
  bytes: Uint8Array
  external: ExternalFiles
}

/** A product with a weight of integers. */
export interface IntegerSite {
  /** The value that the product is, in floats. */
  output: string
  kind: 'linear' | 'embedding' | 'conv'
  /** Initializer of the integers. */
  weight: string
  /** As the float weight would be: [inputs, outputs] for linear, [tokens, outputs], or [outputs, ...kernel]. */
  dims: readonly number[]
  parts: readonly IntegerPart[]
}

export interface IntegerPart {
  target: string
  /** In the checkpoint. */
  shape: readonly number[]
  firstOutput: number
  transposed: boolean
  /** The weights at the target's sketch positions. */
  sketch: readonly number[]
}

const METADATA = 'tritswap.integers'
const MAX_SITES = 65_536

/** What a MatMulInteger or ConvInteger is part of: `output = op(input, weight)` in floats. */
export interface IntegerProduct {
  /** DynamicQuantizeLinear of the input. */
  quantize: NodeProto
  /** MatMulInteger or ConvInteger. */
  product: NodeProto
  cast: NodeProto
  /** Multiplies both scales. */
  scales: NodeProto
  /** Puts the scales on. */
  scale: NodeProto
  /** Name of the weight's scale. */
  weightScale: string
}

/** The float operator that five nodes of a dynamically quantized graph stand for; undefined where they do not. */
export function integerProduct(
  graph: GraphProto,
  product: NodeProto,
  outer: readonly GraphProto[],
): IntegerProduct | undefined {
  if (product.opType !== 'MatMulInteger' && product.opType !== 'ConvInteger') return undefined
  const maker = (value: string) => graph.node.find(({ output }) => output.includes(value))
  const reader = (value: string) => graph.node.find(({ input }) => input.includes(value))
  // What several branches quantize is quantized before them.
  const quantize =
    maker(product.input[0]) ??
    outer.flatMap(({ node }) => node).find(({ output }) => output.includes(product.input[0]))
  const cast = reader(product.output[0])
  const scale = cast && reader(cast.output[0])
  if (quantize?.opType !== 'DynamicQuantizeLinear' || cast?.opType !== 'Cast' || scale?.opType !== 'Mul')
    return undefined
  const scales = maker(scale.input[0] === cast.output[0] ? scale.input[1] : scale.input[0])
  if (scales?.opType !== 'Mul') return undefined
  const weightScale = scales.input.find((name) => name !== quantize.output[1])
  return weightScale === undefined ? undefined : { quantize, product, cast, scales, scale, weightScale }
}

/** Views through which a weight may be looked at before it is dequantized: they move values and do not change them. */
const VIEWS = new Set(['Transpose', 'Reshape', 'Squeeze', 'Unsqueeze', 'Identity', 'Gather'])

/** Nodes from a DequantizeLinear back to the reader of the integers, first reader first. */
export function dequantizedChain(graph: GraphProto, dequantizeLinear: NodeProto): NodeProto[] {
  const chain: NodeProto[] = []
  for (let value = dequantizeLinear.input[0]; ; ) {
    const node = graph.node.find(({ output }) => output.includes(value))
    if (node === undefined || !VIEWS.has(node.opType)) return chain
    chain.unshift(node)
    value = node.input[0]
  }
}

/**
 * Replaces every quantized weight of a graph by a float initializer without bytes, in place: to be looked at, never to
 * be run. Names, layouts and values are then found by the same rules as those of float weights.
 * @returns where the values of those initializers come from, and which of them stand for integers
 */
function viewAsFloat(
  main: GraphProto,
  external: ExternalFiles,
): { data: Map<TensorProto, InitializerData>; integers: Map<TensorProto, string> } {
  const data = new Map(dequantize(main, external).data)
  const integers = new Map<TensorProto, string>()
  const { graphs } = indexGraph(main)
  const initializers = new Map(main.initializer.map((tensor) => [tensor.name, tensor]))
  const floats = new Map<string, TensorProto>()
  const floatOf = (
    reader: NodeProto,
    quantized: TensorProto,
    scale: TensorProto,
    zeroPoint?: TensorProto,
  ): string => {
    const name = nameOf(quantized, reader)
    if (!floats.has(quantized.name)) {
      const tensor = create(TensorProtoSchema, {
        name,
        dims: [...quantized.dims],
        dataType: TensorProto_DataType.FLOAT,
      })
      main.initializer.push(tensor)
      floats.set(quantized.name, tensor)
      integers.set(tensor, quantized.name)
      data.set(tensor, affineData(name, { quantized, scale, zeroPoint }, external))
    }
    return name
  }
  for (const graph of graphs) {
    for (const node of [...graph.node]) {
      const parts = integerProduct(graph, node, graphs)
      if (parts !== undefined) {
        const quantized = initializers.get(node.input[1])
        const scale = initializers.get(parts.weightScale)
        if (quantized === undefined || scale === undefined) continue
        const float = create(NodeProtoSchema, {
          name: node.name,
          opType: node.opType === 'MatMulInteger' ? 'MatMul' : 'Conv',
          input: [parts.quantize.input[0], floatOf(node, quantized, scale, initializers.get(node.input[3]))],
          output: [parts.scale.output[0]],
          attribute: node.attribute,
        })
        const gone = new Set([parts.product, parts.cast, parts.scale])
        graph.node.splice(graph.node.indexOf(parts.scale), 1, float)
        graph.node = graph.node.filter((candidate) => !gone.has(candidate))
      } else if (node.opType === 'DequantizeLinear') {
        const [first = node] = dequantizedChain(graph, node)
        const quantized = initializers.get(first.input[0])
        const scale = initializers.get(node.input[1])
        if (quantized === undefined || scale === undefined || countOf(scale) !== 1) continue
        if (quantized.dims.length < 2) continue
        first.input[0] = floatOf(first, quantized, scale, initializers.get(node.input[2]))
        node.opType = 'Identity'
        node.input = [node.input[0]]
      }
    }
  }
  return { data, integers }
}

/** Modules of transformers that keep their weight [in, out] in the checkpoint too. */
const CONV1D = /\.(c_attn|c_proj|c_fc|q_attn)\.weight$/

/** What the initializer was called; a quantizer turns what a Gemm had as the checkpoint has it. */
function nameOf({ name }: TensorProto, reader: NodeProto): string {
  const own = name.replace(/_quantized$/, '')
  const isTurned = reader.opType === 'MatMulInteger' && /\.weight$/.test(own) && !CONV1D.test(own)
  return isTurned ? own.replace(/(\.MatMul)?\.weight$/, '.MatMul.weight') : own
}

interface Affine {
  quantized: TensorProto
  /** One, or one for each output of the weight. */
  scale: TensorProto
  zeroPoint?: TensorProto
}

/** Values (q − zero point) · scale, computed as they are read. */
function affineData(
  name: string,
  { quantized, scale, zeroPoint }: Affine,
  external: ExternalFiles,
): InitializerData {
  const dims = dimsOf(quantized)
  const length = dims.reduce((product, size) => product * size, 1)
  const signed = quantized.dataType === TensorProto_DataType.INT8
  // Outputs are the columns of a matrix for MatMul, and come first in a kernel for Conv.
  const outputs = dims.length === 2 ? dims[1] : dims[0]
  const outputOf =
    dims.length === 2
      ? (at: number) => at % dims[1]
      : (at: number) => Math.floor(at / (length / Math.max(1, dims[0])))
  const bytesOf = async (tensor: TensorProto, first = 0, count?: number) => {
    const { source, offset, bytes } = locateBytes(tensor, external)
    return (await source.read(offset + first, count ?? bytes)).slice()
  }
  let constants: Promise<{ scales: Float32Array; zeros: Int8Array | Uint8Array }> | undefined
  const loadConstants = async () => {
    const { buffer } = await bytesOf(scale)
    const scales =
      floatType(scale) === 'float16' ? halvesToFloats(new Uint16Array(buffer)) : new Float32Array(buffer)
    const zeros = zeroPoint === undefined ? new Uint8Array(1) : await bytesOf(zeroPoint)
    return { scales, zeros: signed ? new Int8Array(zeros.buffer) : zeros }
  }
  return {
    dtype: 'float32',
    dims,
    length,
    offset: 0,
    quantized: true,
    source: {
      name,
      size: async () => length * 4,
      async read(offset, bytes) {
        constants ??= loadConstants()
        const { scales, zeros } = await constants
        const first = offset / 4
        const packed = await bytesOf(quantized, first, bytes / 4)
        const values = signed ? new Int8Array(packed.buffer) : packed
        const of = <T extends ArrayLike<number>>(list: T, at: number) =>
          list[list.length === outputs ? outputOf(at) : 0]
        const floats = Float32Array.from(
          values,
          (value, i) => (value - of(zeros, first + i)) * of(scales, first + i),
        )
        return new Uint8Array(floats.buffer)
      },
    },
  }
}

function countOf(tensor: TensorProto): number {
  return dimsOf(tensor).reduce((product, size) => product * size, 1)
}

/**
 * Finds the integer weights of all graphs of a model, by the names of the checkpoint.
 * @returns sites by file; graphs without any are left out
 */
export async function findIntegers(
  files: readonly IntegerGraph[],
  options: { checkpoint?: Checkpoint; modelType?: string },
): Promise<Map<string, IntegerSite[]>> {
  const found = new Map<string, IntegerSite[]>()
  const models = files.map(({ file, bytes, external }) => {
    const { graph } = parseModel(bytes, file)
    liftConstants(graph!)
    return { file, external, graph: graph!, ...viewAsFloat(graph!, external) }
  })
  if (models.every(({ integers }) => integers.size === 0)) return found
  const located = models.flatMap(({ file, external, graph, data }) =>
    findParameters(indexGraph(graph)).map((parameter): LocatedParameter => {
      const { tensor } = parameter
      return { file, parameter, data: data.get(tensor) ?? initializerData(tensor, external) }
    }),
  )
  const { resolved } = await resolveParameters(located, options)
  for (const { file, graph, integers } of models) {
    const index = indexGraph(graph)
    for (const entry of resolved.filter((candidate) => candidate.file === file)) {
      const weight = integers.get(entry.parameter.tensor)
      if (weight === undefined) continue
      const uses =
        entry.uses ?? index.initializers.find(({ tensor }) => tensor === entry.parameter.tensor)!.uses
      const ends = uses.flatMap((use) =>
        endsOf(index, use).map((end) => ({
          end,
          transposed: end !== use && use.node.opType === 'Transpose',
        })),
      )
      for (const { end, transposed } of ends) {
        const site = await siteOf(end.node, transposed, weight, entry, graph)
        const sites = found.get(file) ?? []
        found.set(file, sites)
        if (site !== undefined && !sites.some(({ output }) => output === site.output)) sites.push(site)
      }
    }
  }
  return found
}

async function siteOf(
  node: NodeProto,
  isTransposed: boolean,
  weight: string,
  { data, parts, shapes }: ResolvedParameter,
  main: GraphProto,
): Promise<IntegerSite | undefined> {
  const { dims } = data
  const kinds: Record<string, IntegerSite['kind']> = { MatMul: 'linear', Gather: 'embedding', Conv: 'conv' }
  const kind = kinds[node.opType]
  if (kind === undefined || (kind !== 'conv' && dims.length !== 2)) return undefined
  const size = dims.slice(1).reduce((product, length) => product * length, 1)
  // Steps in the initializer from one output to the next, and from one input to the next.
  const [down, right] = kind === 'conv' || isTransposed ? [size, 1] : [1, dims[1]]
  const found: IntegerPart[] = []
  for (const { tensor, offset, rowStride, colStride } of parts) {
    const shape = shapes.get(tensor)!
    const { rows, cols } = tilingOf(shape)
    const lies = (rowStep: number, colStep: number) =>
      (rows === 1 || rowStride === rowStep) && (cols === 1 || colStride === colStep)
    const transposed = !lies(down, right)
    if ((transposed && !lies(right, down)) || !Number.isInteger(offset / down)) return undefined
    const sketch: number[] = []
    for (const position of sketchPositions(tensor, weightsOf(shape))) {
      const at = offset + Math.floor(position / cols) * rowStride + (position % cols) * colStride
      sketch.push((await readElements(data, at, 1))[0])
    }
    found.push({ target: tensor, shape, firstOutput: offset / down, transposed, sketch })
  }
  const output = kind === 'embedding' ? lookedUp(main, node) : node.output[0]
  if (output === undefined) return undefined
  return { output, kind, weight, dims: isTransposed ? [dims[1], dims[0]] : dims, parts: found }
}

/** The floats that a lookup of integers ends in: in the view, behind the Identity that was a DequantizeLinear. */
function lookedUp(main: GraphProto, gather: NodeProto): string | undefined {
  for (const graph of indexGraph(main).graphs) {
    if (!graph.node.includes(gather)) continue
    for (let [value] = gather.output; ; ) {
      const [next, ...others] = graph.node.filter(({ input }) => input.includes(value))
      if (next === undefined || others.length > 0 || !VIEWS.has(next.opType)) return undefined
      value = next.output[0]
      if (next.opType === 'Identity') return value
    }
  }
  return undefined
}

/** Writes sites into a graph. */
export function recordIntegers(model: ModelProto, sites: readonly IntegerSite[]): void {
  if (sites.length === 0) return
  model.metadataProps.push(
    create(StringStringEntryProtoSchema, { key: METADATA, value: JSON.stringify(sites.map(recordOf)) }),
  )
}

/** A site as prepared graphs have it: their name for `transposed` is older. */
function recordOf(site: IntegerSite) {
  return { ...site, parts: site.parts.map(({ transposed: turned, ...part }) => ({ ...part, turned })) }
}

/** Sites that a hoisted graph file tells of. @throws {TritswapError} `format`, `input` */
export function integersOf({ file, bytes }: Pick<IntegerGraph, 'file' | 'bytes'>): IntegerSite[] {
  return recordedIntegers(parseModel(bytes, file))
}

/** What {@link recordIntegers} wrote. @throws {TritswapError} `format` */
export function recordedIntegers(model: ModelProto): IntegerSite[] {
  const value = model.metadataProps.find(({ key }) => key === METADATA)?.value
  if (value === undefined) return []
  return array(JSON.parse(value), METADATA, MAX_SITES).map((item, i) => {
    const at = `${METADATA}[${i}]`
    const site = object(item, at)
    return {
      output: text(site.output, `${at}.output`),
      kind: oneOf(site.kind, `${at}.kind`, ['linear', 'embedding', 'conv'] as const),
      weight: text(site.weight, `${at}.weight`),
      dims: shapeOf(site.dims, `${at}.dims`, MAX_RANK, MAX_TENSOR_WEIGHTS),
      parts: array(site.parts, `${at}.parts`, MAX_PARTS).map((entry, p) => {
        const part = object(entry, `${at}.parts[${p}]`)
        return {
          target: text(part.target, `${at}.target`),
          shape: shapeOf(part.shape, `${at}.shape`, MAX_RANK, MAX_TENSOR_WEIGHTS),
          firstOutput: integer(part.firstOutput, `${at}.firstOutput`, 0, MAX_TENSOR_WEIGHTS),
          transposed: part.turned === true,
          sketch: array(part.sketch, `${at}.sketch`, SKETCH_VALUES).map(Number),
        }
      }),
    }
  })
}
