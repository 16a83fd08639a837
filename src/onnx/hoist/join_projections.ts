/**
 * Products of the same features whose weights are one tensor in the checkpoint (`gate_up_proj` of Phi-3, which
 * onnxruntime-genai exports as gate and up) become one product again, followed by a Split. So the tensor fills one
 * input, and whatever changes it needs to know nothing of parts.
 *
 * @module
 */
import { create } from '@bufbuild/protobuf'
import type { ByteSource, ReadOptions } from '../../source/source.ts'
import { indexGraph } from '../graph/graph_index.ts'
import { operatorOf } from '../graph/operators.ts'
import { intAttribute, newInt, newNode } from '../proto/nodes.ts'
import {
  type AttributeProto,
  AttributeProto_AttributeType,
  AttributeProtoSchema,
  type GraphProto,
  type ModelProto,
  type NodeProto,
  StringStringEntryProtoSchema,
  type TensorProto,
  TensorProto_DataLocation,
  TensorProto_DataType,
  TensorProtoSchema,
} from '../proto/onnx_pb.ts'
import { type ExternalFiles, locateBytes, type RawInitializer } from '../proto/tensor_bytes.ts'
import { checkBytes, dimsOf } from '../proto/tensors.ts'
import { joinedWeightOf, partsOfJoined } from '../resolve/joined_projections.ts'
import { moduleOfNode, nodeNameIn } from '../resolve/names.ts'

/** The products that are the parts of one weight, in its order. */
interface Parts {
  /** `…mlp.gate_up_proj` */
  module: string
  graph: GraphProto
  nodes: NodeProto[]
}

/** Split takes its sizes as an input since this version of ONNX's operators. */
const SPLIT_INPUT_VERSION = 13n

/**
 * Joins products in place.
 * @param isJoined - whether a weight, by the name of the joined parameter, is one tensor in the checkpoint
 * @returns where the data of initializers lies: that of joined ones in the files of their parts
 */
export function joinProjections(
  model: ModelProto & { graph: GraphProto },
  external: ExternalFiles,
  isJoined: (parameter: string) => boolean,
): ExternalFiles {
  const main = model.graph
  const initializers = new Map(main.initializer.map((tensor) => [tensor.name, tensor]))
  const sources = new Map<string, ByteSource>()
  for (const { module, graph, nodes } of findParts(main, initializers, isJoined)) {
    const [first] = nodes
    const input = first.input.map((name, position) => {
      const tensors = nodes.map((node) => initializers.get(node.input[position]))
      if (tensors.some((tensor) => tensor === undefined)) return name
      const parts = (tensors as TensorProto[]).map((tensor) => rawInitializer(tensor, external))
      const { tensor, source } = joined(`${module}.${suffixOf(first, position)}`, first, parts)
      sources.set(tensor.name, source)
      main.initializer.push(tensor)
      return tensor.name
    })
    const sizes = nodes.map((node) => outputsOf(node, initializers))
    const value = `${module}::product`
    const product = newNode(nodeNameIn(module, first.opType), first.opType, input, [value], {
      domain: first.domain,
      attribute: first.attribute.map((attribute) =>
        attribute.name === 'N'
          ? newInt(
              'N',
              sizes.reduce((sum, size) => sum + size, 0),
            )
          : attribute,
      ),
    })
    const split = splitOf(model, module, value, sizes)
    split.output = nodes.map(({ output }) => output[0])
    graph.node.splice(graph.node.indexOf(first), 0, product, split)
    graph.node = graph.node.filter((node) => !nodes.includes(node))
  }
  const { readersOf } = indexGraph(main)
  if (sources.size > 0)
    main.initializer = main.initializer.filter(({ name }) => readersOf(main, name).length > 0)
  return (location) => sources.get(location) ?? external(location)
}

function findParts(
  main: GraphProto,
  initializers: ReadonlyMap<string, TensorProto>,
  isJoined: (parameter: string) => boolean,
): Parts[] {
  const index = indexGraph(main)
  return index.graphs.flatMap((graph) => {
    const groups = new Map<string, Map<string, NodeProto>>()
    for (const node of graph.node) {
      const module = moduleOfNode(node)
      const parameter = module && joinedWeightOf(module)
      if (parameter === undefined || !isJoined(parameter) || !canBePart(node, initializers)) continue
      // A module that is called again has products of other features.
      const key = `${parameter} ${node.input[0]}`
      groups.set(key, (groups.get(key) ?? new Map()).set(`${module}.weight`, node))
    }
    return Array.from(groups, ([key, byName]) => {
      const [parameter] = key.split(' ')
      const nodes = partsOfJoined(parameter)!.flatMap((part) => byName.get(part) ?? [])
      return { module: parameter.replace(/\.weight$/, ''), graph, nodes }
    }).filter(({ module, nodes }) => {
      const isWhole = nodes.length === partsOfJoined(`${module}.weight`)!.length
      const areAlike = new Set(nodes.map((node) => likenessOf(node, initializers))).size === 1
      const areOwn = nodes.every(({ input }) => index.readersOf(main, input[1]).length === 1)
      return isWhole && areAlike && areOwn
    })
  })
}

/** A product with a matrix of its own, in floats or quantized by blocks, and with nothing but that. */
function canBePart(node: NodeProto, initializers: ReadonlyMap<string, TensorProto>): boolean {
  const { product } = operatorOf(node)
  const weight = initializers.get(node.input[1])
  if (weight === undefined || product?.kind !== 'linear') return false
  if (node.opType === 'MatMul') return weight.dims.length === 2
  if (product.blocks === undefined) return false
  return node.input.every((name, position) => position <= product.blocks!.zeroPoints || name === '')
}

/** What the parts of one product must have in common. */
function likenessOf(node: NodeProto, initializers: ReadonlyMap<string, TensorProto>): string {
  const types = node.input.slice(1).map((name) => initializers.get(name)?.dataType)
  const inputs = node.opType === 'MatMul' ? Number(initializers.get(node.input[1])!.dims[0]) : undefined
  const settings = node.attribute.filter(({ name }) => name !== 'N').map(({ name, i }) => `${name}=${i}`)
  return [node.opType, ...types, inputs, ...settings.sort()].join()
}

function outputsOf(node: NodeProto, initializers: ReadonlyMap<string, TensorProto>): number {
  return intAttribute(node, 'N') ?? Number(initializers.get(node.input[1])!.dims.at(-1))
}

/** What exporters call the initializers of a product. */
function suffixOf(node: NodeProto, position: number): string {
  return node.opType === 'MatMul'
    ? 'MatMul.weight'
    : ['', 'MatMul.weight_Q4', 'MatMul.weight_scales', 'MatMul.weight_zero_points'][position]
}

function rawInitializer(tensor: TensorProto, external: ExternalFiles): RawInitializer {
  const located = locateBytes(tensor, external)
  checkBytes(tensor, located.bytes)
  return located
}

/** Outputs are the columns of a matrix in floats, and the rows of a quantized one and of its scales. */
function joined(
  name: string,
  { opType }: NodeProto,
  parts: readonly RawInitializer[],
): { tensor: TensorProto; source: ByteSource } {
  const [{ tensor: first }] = parts
  const dims = dimsOf(first)
  const axis = opType === 'MatMul' ? 1 : 0
  const sizes = parts.map(({ tensor }) => dimsOf(tensor)[axis])
  dims[axis] = sizes.reduce((sum, size) => sum + size, 0)
  const rows = axis === 0 ? 1 : dims[0]
  const bytes = parts.reduce((sum, part) => sum + part.bytes, 0)
  const tensor = create(TensorProtoSchema, {
    name,
    dims: dims.map(BigInt),
    dataType: first.dataType,
    dataLocation: TensorProto_DataLocation.EXTERNAL,
    externalData: Object.entries({ location: name, offset: 0, length: bytes }).map(([key, value]) =>
      create(StringStringEntryProtoSchema, { key, value: `${value}` }),
    ),
  })
  return { tensor, source: interleaved(name, parts, rows) }
}

/** Row 0 of all parts, row 1 of all parts, … */
function interleaved(name: string, parts: readonly RawInitializer[], rows: number): ByteSource {
  const lengths = parts.map(({ bytes }) => bytes / rows)
  const starts = lengths.map((_, i) => lengths.slice(0, i).reduce((sum, length) => sum + length, 0))
  const rowLength = lengths.reduce((sum, length) => sum + length, 0)
  return {
    name,
    size: async () => rowLength * rows,
    async read(offset, length, options?: ReadOptions) {
      const out = new Uint8Array(length)
      const firstRow = Math.floor(offset / rowLength)
      const lastRow = Math.floor((offset + length - 1) / rowLength)
      for (const [i, { source, offset: at }] of parts.entries()) {
        // Where the bytes asked for begin and end in this part of the first and of the last row.
        const clamp = (position: number) => Math.min(Math.max(position - starts[i], 0), lengths[i])
        const from = firstRow * lengths[i] + clamp(offset - firstRow * rowLength)
        const to = lastRow * lengths[i] + clamp(offset + length - lastRow * rowLength)
        if (to <= from) continue
        const bytes = await source.read(at + from, to - from, options)
        for (let row = Math.floor(from / lengths[i]); row * lengths[i] < to; row++) {
          const start = Math.max(row * lengths[i], from)
          const end = Math.min((row + 1) * lengths[i], to)
          const target = row * rowLength + starts[i] + (start - row * lengths[i]) - offset
          out.set(bytes.subarray(start - from, end - from), target)
        }
      }
      return out
    },
  }
}

function splitOf(
  { graph, opsetImport }: ModelProto,
  module: string,
  value: string,
  sizes: readonly number[],
): NodeProto {
  const version = opsetImport.find(({ domain }) => domain === '' || domain === 'ai.onnx')?.version ?? 1n
  const attribute: AttributeProto[] = [newInt('axis', -1)]
  const input = [value]
  if (version < SPLIT_INPUT_VERSION) {
    const type = AttributeProto_AttributeType.INTS
    attribute.push(create(AttributeProtoSchema, { name: 'split', type, ints: sizes.map(BigInt) }))
  } else {
    const name = `${module}::sizes`
    graph!.initializer.push(
      create(TensorProtoSchema, {
        name,
        dims: [BigInt(sizes.length)],
        dataType: TensorProto_DataType.INT64,
        rawData: new Uint8Array(BigInt64Array.from(sizes.map(BigInt)).buffer),
      }),
    )
    input.push(name)
  }
  return newNode(nodeNameIn(module, 'Split'), 'Split', input, [], { attribute })
}
