/**
 * Block-quantized weights as float ones: MatMulNBits becomes MatMul and GatherBlockQuantized becomes Gather, each over
 * a float initializer that is computed from the quantized one when it is read. Hoisted, such a weight is dequantized
 * once and then patched like any other.
 *
 * @module
 */
import { create } from '@bufbuild/protobuf'
import { floatsToHalves, halvesToFloats } from '../format/float16.ts'
import type { ByteSource } from '../source/source.ts'
import {
  BYTES_PER_ELEMENT,
  dimsOf,
  type ExternalFiles,
  floatType,
  type InitializerData,
  locateBytes,
} from './initializer.ts'
import {
  type GraphProto,
  type NodeProto,
  NodeProtoSchema,
  type TensorProto,
  TensorProto_DataType,
  TensorProtoSchema,
} from './onnx_pb.ts'
import { indexGraph, intAttribute } from './uses.ts'

/** Quantized weights of one graph, seen as float initializers. */
export interface Dequantized {
  /** Data of the float initializers that stand for quantized ones. */
  data: ReadonlyMap<TensorProto, InitializerData>
  /** Puts back what is still an initializer, and drops what nothing reads any more. */
  settle(): void
}

/** A matrix `rows × cols` ([out, in]) in blocks of `blockSize` along its rows. */
interface Blocks {
  rows: number
  cols: number
  blockSize: number
  bits: number
  packed: TensorProto
  scales: TensorProto
  /** One a block: packed like the weights, or floats. Without them it is the middle of the range. */
  zeroPoints?: TensorProto
  /** Order of the float initializer. */
  layout: 'checkpoint' | 'transposed'
}

/** Replaces the quantized weights of a graph, in place. */
export function dequantize(main: GraphProto, external: ExternalFiles): Dequantized {
  const { graphs } = indexGraph(main)
  const initializers = new Map(main.initializer.map((tensor) => [tensor.name, tensor]))
  const replaced: { graph: GraphProto; tensor: TensorProto; before: NodeProto; after: NodeProto[] }[] = []
  const data = new Map<TensorProto, InitializerData>()
  const load = lastLoaded(external)
  for (const graph of graphs) {
    for (const before of [...graph.node]) {
      const blocks = blocksOf(before, graph, initializers)
      if (blocks === undefined) continue
      const dtype = floatType(blocks.scales)!
      const { rows, cols, layout } = blocks
      const dims = layout === 'transposed' ? [cols, rows] : [rows, cols]
      const name = `${blocks.packed.name.replace(/_(DQ_)?Q\d\w*$/, '')}${layout === 'checkpoint' ? '.rows' : ''}`
      let tensor = initializers.get(name)
      if (tensor === undefined) {
        tensor = create(TensorProtoSchema, {
          name,
          dims: dims.map(BigInt),
          dataType: dtype === 'float32' ? TensorProto_DataType.FLOAT : TensorProto_DataType.FLOAT16,
        })
        initializers.set(name, tensor)
        main.initializer.push(tensor)
        const source = dequantizedSource(blocks, dtype, load)
        data.set(tensor, { dtype, dims, length: rows * cols, source, offset: 0, quantized: true })
      }
      if (!data.has(tensor)) continue
      const after = floatNodes(before, name)
      graph.node.splice(graph.node.indexOf(before), 1, ...after)
      replaced.push({ graph, tensor, before, after })
    }
  }
  return {
    data,
    settle() {
      const left = new Set(main.initializer.filter((tensor) => data.has(tensor)))
      main.initializer = main.initializer.filter((tensor) => !left.has(tensor))
      for (const { graph, tensor, before, after } of replaced) {
        if (left.has(tensor)) graph.node.splice(graph.node.indexOf(after[0]), after.length, before)
      }
      if (replaced.length > 0) dropUnread(main)
    },
  }
}

/** The quantized matrix that a node multiplies with or looks up in; undefined if it is none, or one we cannot undo. */
function blocksOf(
  node: NodeProto,
  graph: GraphProto,
  initializers: ReadonlyMap<string, TensorProto>,
): Blocks | undefined {
  const [, , scalesName, zeroName] = node.input
  const scales = initializers.get(scalesName)
  const zeroPoints = zeroName ? initializers.get(zeroName) : undefined
  if (scales === undefined || floatType(scales) === undefined || (zeroName && zeroPoints === undefined))
    return undefined
  const common = {
    bits: intAttribute(node, 'bits') ?? 4,
    blockSize: intAttribute(node, 'block_size') ?? 0,
    scales,
    zeroPoints,
  }
  let blocks: Blocks | undefined
  if (node.opType === 'MatMulNBits') {
    const packed = initializers.get(node.input[1])
    // A permutation of the columns (g_idx, input 4) has no place in an affine layout.
    if (packed === undefined || node.input[4]) return undefined
    const rows = intAttribute(node, 'N') ?? 0
    const cols = intAttribute(node, 'K') ?? 0
    blocks = { ...common, rows, cols, packed, layout: 'transposed' }
  } else if (node.opType === 'GatherBlockQuantized') {
    // The builder of onnxruntime-genai looks up in the reshaped weight of a tied head.
    const view = graph.node.find(({ opType, output }) => opType === 'Reshape' && output[0] === node.input[0])
    const packed = initializers.get(view?.input[0] ?? node.input[0])
    const axis = intAttribute(node, 'quantize_axis') ?? 1
    if (packed === undefined || (intAttribute(node, 'gather_axis') ?? 0) !== 0 || ![1, -1].includes(axis))
      return undefined
    const rows = dimsOf(packed)[0]
    const perRow = dimsOf(packed)
      .slice(1)
      .reduce((product, size) => product * size, 1)
    blocks = { ...common, rows, cols: (perRow * 8) / common.bits, packed, layout: 'checkpoint' }
  }
  return blocks !== undefined && isWhole(blocks) ? blocks : undefined
}

/** Whether the sizes of all parts agree. */
function isWhole({ rows, cols, blockSize, bits, packed, scales, zeroPoints }: Blocks): boolean {
  if (rows < 1 || cols < 1 || blockSize < 1 || ![2, 4, 8].includes(bits)) return false
  if (packed.dataType !== TensorProto_DataType.UINT8) return false
  const perRow = Math.ceil(cols / blockSize)
  const count = (tensor: TensorProto) => dimsOf(tensor).reduce((product, size) => product * size, 1)
  if (count(packed) !== (rows * perRow * blockSize * bits) / 8 || count(scales) !== rows * perRow)
    return false
  if (zeroPoints === undefined) return true
  return zeroPoints.dataType === TensorProto_DataType.UINT8
    ? count(zeroPoints) === rows * Math.ceil((perRow * bits) / 8)
    : zeroPoints.dataType === scales.dataType && count(zeroPoints) === rows * perRow
}

/** The float nodes that do what a quantized one did. */
function floatNodes(node: NodeProto, weight: string): NodeProto[] {
  const [output] = node.output
  if (node.opType === 'GatherBlockQuantized') {
    return [
      create(NodeProtoSchema, {
        name: node.name,
        opType: 'Gather',
        input: [weight, node.input[1]],
        output: [output],
      }),
    ]
  }
  const bias = node.input[5]
  const product = bias ? `${output}::product` : output
  const multiply = create(NodeProtoSchema, {
    name: node.name,
    opType: 'MatMul',
    input: [node.input[0], weight],
    output: [product],
  })
  if (!bias) return [multiply]
  const add = create(NodeProtoSchema, {
    name: `${node.name}_bias`,
    opType: 'Add',
    input: [product, bias],
    output: [output],
  })
  return [multiply, add]
}

/** Removes initializers, views and constants that only a quantized node had read. */
function dropUnread(main: GraphProto): void {
  const results = new Set(main.output.map(({ name }) => name))
  const isRead = (name: string) => results.has(name) || readersOf(main, name).length > 0
  let { readersOf } = indexGraph(main)
  // A view first, then the constants that gave its shape.
  for (const gone of ['Reshape', 'Constant']) {
    main.node = main.node.filter(({ opType, output }) => opType !== gone || isRead(output[0]))
    readersOf = indexGraph(main).readersOf
  }
  main.initializer = main.initializer.filter(({ name }) => isRead(name))
}

/** All parts of one matrix in memory. */
interface Loaded {
  packed: Uint8Array
  scales: Float32Array
  zeroPoint(block: number, row: number, blockInRow: number): number
}

/** Reads the parts of a matrix, and keeps those of the last one: samples are taken one by one. */
function lastLoaded(external: ExternalFiles): (blocks: Blocks) => Promise<Loaded> {
  let last: { blocks: Blocks; loaded: Promise<Loaded> } | undefined
  return (blocks) => {
    if (last?.blocks !== blocks) last = { blocks, loaded: loadBlocks(blocks, external) }
    return last.loaded
  }
}

async function loadBlocks(
  { cols, blockSize, bits, packed, scales, zeroPoints }: Blocks,
  external: ExternalFiles,
): Promise<Loaded> {
  const read = async (tensor: TensorProto) => {
    const { source, offset, bytes } = locateBytes(tensor, external)
    return (await source.read(offset, bytes)).slice()
  }
  const floats = async (tensor: TensorProto) => {
    const { buffer } = await read(tensor)
    return floatType(tensor) === 'float32'
      ? new Float32Array(buffer)
      : halvesToFloats(new Uint16Array(buffer))
  }
  const perRow = Math.ceil(cols / blockSize)
  const common = { packed: await read(packed), scales: await floats(scales) }
  if (zeroPoints === undefined) return { ...common, zeroPoint: () => 2 ** (bits - 1) }
  if (floatType(zeroPoints) !== undefined) {
    const values = await floats(zeroPoints)
    return { ...common, zeroPoint: (block) => values[block] }
  }
  const values = await read(zeroPoints)
  const stride = Math.ceil((perRow * bits) / 8)
  return { ...common, zeroPoint: (_, row, i) => field(values, row * stride * 8 + i * bits, bits) }
}

function dequantizedSource(
  blocks: Blocks,
  dtype: InitializerData['dtype'],
  load: (blocks: Blocks) => Promise<Loaded>,
): ByteSource {
  const { rows, cols, blockSize, bits, layout, packed } = blocks
  const perRow = Math.ceil(cols / blockSize)
  const size = BYTES_PER_ELEMENT[dtype]
  return {
    name: packed.name,
    size: async () => rows * cols * size,
    async read(offset, length) {
      const { packed: words, scales, zeroPoint } = await load(blocks)
      const first = offset / size
      const values = new Float32Array(length / size)
      for (let i = 0; i < values.length; i++) {
        const at = first + i
        const row = layout === 'transposed' ? at % rows : Math.floor(at / cols)
        const col = layout === 'transposed' ? Math.floor(at / rows) : at % cols
        const blockInRow = Math.floor(col / blockSize)
        const block = row * perRow + blockInRow
        const value = field(words, (block * blockSize + (col % blockSize)) * bits, bits)
        values[i] = (value - zeroPoint(block, row, blockInRow)) * scales[block]
      }
      return new Uint8Array((dtype === 'float32' ? values : floatsToHalves(values)).buffer)
    },
  }
}

/** An unsigned field of 2, 4 or 8 bits that does not cross a byte. */
function field(bytes: Uint8Array, bit: number, bits: number): number {
  return (bytes[bit >>> 3] >>> (bit & 7)) & ((1 << bits) - 1)
}
