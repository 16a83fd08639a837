/**
 * Block-quantized weights as float ones: MatMulNBits becomes MatMul and GatherBlockQuantized becomes Gather, each over
 * a float initializer that is computed from the quantized one when it is read. Hoisted, such a weight is dequantized
 * once and then patched like any other. Under the same guise a weight that stays quantized gets its name.
 *
 * @module
 */
import { create } from '@bufbuild/protobuf'
import { floatsToHalves } from '../../format/float16.ts'
import { blocksReader, ELEMENT_BYTES, MAX_BLOCK_SIZE, MIN_BLOCK_SIZE } from '../../format/index.ts'
import type { ByteSource } from '../../source/source.ts'
import { indexGraph, intAttribute, type Use } from '../graph/graph_index.ts'
import {
  dimsOf,
  type ExternalFiles,
  floatType,
  type InitializerData,
  locateBytes,
  type QuantizedMatrix,
  type RawInitializer,
  wrongSize,
} from '../proto/initializer.ts'
import {
  type GraphProto,
  type NodeProto,
  NodeProtoSchema,
  type TensorProto,
  TensorProto_DataType,
  TensorProtoSchema,
} from '../proto/onnx_pb.ts'

/** Quantized weights of one graph, seen as float initializers. */
export interface Dequantized {
  /** Data of the float initializers that stand for quantized ones. */
  data: ReadonlyMap<TensorProto, InitializerData>
  /** The quantized nodes that `uses` of a float initializer stand for; by default all. */
  nodesOf(tensor: TensorProto, uses?: readonly Use[]): NodeProto[]
  /** Puts the nodes of what is still an initializer back. */
  settle(): void
  /** Drops what nothing reads any more. */
  finish(): void
}

/** Replaces the quantized weights of a graph, in place. */
export function dequantize(main: GraphProto, external: ExternalFiles): Dequantized {
  const { graphs } = indexGraph(main)
  const initializers = new Map(main.initializer.map((tensor) => [tensor.name, tensor]))
  const replaced: { graph: GraphProto; tensor: TensorProto; before: NodeProto; after: NodeProto[] }[] = []
  const data = new Map<TensorProto, InitializerData>()
  const load = lastLoaded()
  for (const graph of graphs) {
    for (const before of [...graph.node]) {
      const blocks = matrixOf(before, graph, initializers, external)
      if (blocks === undefined) continue
      const dtype = blocks.dtype === 'f32' ? 'float32' : 'float16'
      const { rows, cols, layout } = blocks
      const dims = layout === 'transposed' ? [cols, rows] : [rows, cols]
      const { tensor: packed } = blocks.components.weights
      const own = `${packed.name.replace(/_(DQ_)?Q\d\w*$/, '')}${layout === 'checkpoint' ? '.rows' : ''}`
      let name = own
      let tensor = initializers.get(name)
      for (let n = 2; tensor !== undefined && !isOf(data.get(tensor), blocks); n++) {
        name = `${own}::${n}`
        tensor = initializers.get(name)
      }
      if (tensor === undefined) {
        tensor = create(TensorProtoSchema, {
          name,
          dims: dims.map(BigInt),
          dataType: dtype === 'float32' ? TensorProto_DataType.FLOAT : TensorProto_DataType.FLOAT16,
        })
        initializers.set(name, tensor)
        main.initializer.push(tensor)
        const source = dequantizedSource(blocks, dtype, load)
        data.set(tensor, {
          dtype,
          dims,
          length: rows * cols,
          source,
          offset: 0,
          quantized: true,
          matrix: blocks,
        })
      }
      const after = floatNodes(before, name)
      graph.node.splice(graph.node.indexOf(before), 1, ...after)
      replaced.push({ graph, tensor, before, after })
    }
  }
  return {
    data,
    nodesOf(tensor, uses) {
      return replaced
        .filter(
          (one) => one.tensor === tensor && (uses?.some(({ node }) => one.after.includes(node)) ?? true),
        )
        .map(({ before }) => before)
    },
    settle() {
      const left = new Set(main.initializer.filter((tensor) => data.has(tensor)))
      main.initializer = main.initializer.filter((tensor) => !left.has(tensor))
      for (const { graph, tensor, before, after } of replaced) {
        if (!left.has(tensor)) continue
        // Its bias may be an input of another name by now.
        if (after.length === 2) before.input[5] = after[1].input[1]
        graph.node.splice(graph.node.indexOf(after[0]), after.length, before)
      }
    },
    finish() {
      if (replaced.length > 0) dropUnread(main)
    },
  }
}

/** Whether an initializer stands for the same quantized weights. */
function isOf(data: InitializerData | undefined, { components }: QuantizedMatrix): boolean {
  const known = data?.matrix?.components
  return (
    known?.weights.tensor === components.weights.tensor && known.scales.tensor === components.scales.tensor
  )
}

/** The quantized matrix that a node multiplies with or looks up in; undefined if it is none, or one we cannot undo. */
function matrixOf(
  node: NodeProto,
  graph: GraphProto,
  initializers: ReadonlyMap<string, TensorProto>,
  external: ExternalFiles,
): QuantizedMatrix | undefined {
  const isProduct = node.opType === 'MatMulNBits'
  if (!isProduct && node.opType !== 'GatherBlockQuantized') return undefined
  // The builder of onnxruntime-genai looks up in the reshaped weight of a tied head.
  const data = node.input[isProduct ? 1 : 0]
  const view = graph.node.find(({ opType, output }) => opType === 'Reshape' && output[0] === data)
  const weights = initializers.get(isProduct ? data : (view?.input[0] ?? data))
  const scales = initializers.get(node.input[2])
  const zeroPoints = node.input[3] ? initializers.get(node.input[3]) : undefined
  if (weights === undefined || scales === undefined || (node.input[3] && zeroPoints === undefined))
    return undefined
  const bits = intAttribute(node, 'bits') ?? 4
  const blockSize = intAttribute(node, 'block_size') ?? (isProduct ? 0 : 128)
  const dims = dimsOf(weights)
  let sizes: { rows: number; cols: number; layout: QuantizedMatrix['layout'] }
  if (isProduct) {
    // A permutation of the columns (g_idx) has no place in an affine layout.
    if (node.input[4]) return undefined
    sizes = { rows: intAttribute(node, 'N') ?? 0, cols: intAttribute(node, 'K') ?? 0, layout: 'transposed' }
  } else {
    const axis = intAttribute(node, 'quantize_axis') ?? 1
    if ((intAttribute(node, 'gather_axis') ?? 0) !== 0 || (axis !== 1 && axis !== -1)) return undefined
    const perRow = dims.slice(1).reduce((product, size) => product * size, 1)
    sizes = { rows: dims[0], cols: (perRow * 8) / bits, layout: 'checkpoint' }
  }
  if (!isWhole(sizes, { bits, blockSize, weights, scales, zeroPoints })) return undefined
  const isFloat = zeroPoints !== undefined && floatType(zeroPoints) !== undefined
  return {
    ...sizes,
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

/** @throws {TritswapError} `input` when its size does not agree with its shape */
function rawInitializer(tensor: TensorProto, external: ExternalFiles): RawInitializer {
  const located = locateBytes(tensor, external)
  const expected = countOf(tensor) * ELEMENT_BYTES[floatType(tensor) ?? 'uint8']
  if (located.bytes !== expected) throw wrongSize(tensor, expected, located.bytes)
  return { tensor, ...located }
}

function countOf(tensor: TensorProto): number {
  return dimsOf(tensor).reduce((product, size) => product * size, 1)
}

/** Whether the sizes of all parts agree, and are ones that a weights file takes. */
function isWhole(
  { rows, cols }: { rows: number; cols: number },
  {
    bits,
    blockSize,
    weights,
    scales,
    zeroPoints,
  }: { bits: number; blockSize: number; weights: TensorProto; scales: TensorProto; zeroPoints?: TensorProto },
): boolean {
  if (rows < 1 || cols < 1 || !Number.isInteger(cols) || ![2, 4, 8].includes(bits)) return false
  if (blockSize % MIN_BLOCK_SIZE !== 0 || blockSize < MIN_BLOCK_SIZE || blockSize > MAX_BLOCK_SIZE)
    return false
  if (weights.dataType !== TensorProto_DataType.UINT8 || floatType(scales) === undefined) return false
  const perRow = Math.ceil(cols / blockSize)
  if (countOf(weights) !== (rows * perRow * blockSize * bits) / 8 || countOf(scales) !== rows * perRow)
    return false
  if (zeroPoints === undefined) return true
  return zeroPoints.dataType === TensorProto_DataType.UINT8
    ? countOf(zeroPoints) === rows * Math.ceil((perRow * bits) / 8)
    : zeroPoints.dataType === scales.dataType && countOf(zeroPoints) === rows * perRow
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

type Reader = ReturnType<typeof blocksReader>

/** Reads weights of matrices, and keeps the bytes of the last one: samples are taken one by one. */
function lastLoaded(): (matrix: QuantizedMatrix) => Promise<Reader> {
  let last: { matrix: QuantizedMatrix; reader: Promise<Reader> } | undefined
  return (matrix) => {
    if (last?.matrix !== matrix) last = { matrix, reader: readerOf(matrix) }
    return last.reader
  }
}

async function readerOf(matrix: QuantizedMatrix): Promise<Reader> {
  const { weights, scales, zeroPoints } = matrix.components
  const read = ({ source, offset, bytes }: RawInitializer) => source.read(offset, bytes)
  return blocksReader(matrix, matrix.cols, {
    weights: await read(weights),
    scales: await read(scales),
    zeroPoints: zeroPoints && (await read(zeroPoints)),
  })
}

function dequantizedSource(
  matrix: QuantizedMatrix,
  dtype: 'float32' | 'float16',
  load: (matrix: QuantizedMatrix) => Promise<Reader>,
): ByteSource {
  const { rows, cols, layout, components } = matrix
  const size = ELEMENT_BYTES[dtype]
  return {
    name: components.weights.tensor.name,
    size: async () => rows * cols * size,
    async read(offset, length) {
      const weight = await load(matrix)
      const first = offset / size
      const values = Float32Array.from({ length: length / size }, (_, i) => {
        const at = first + i
        return layout === 'transposed'
          ? weight(at % rows, Math.floor(at / rows))
          : weight(Math.floor(at / cols), at % cols)
      })
      return new Uint8Array((dtype === 'float32' ? values : floatsToHalves(values)).buffer)
    },
  }
}
