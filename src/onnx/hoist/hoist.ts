import { create } from '@bufbuild/protobuf'
import { floatsToHalves } from '../../format/float16.ts'
import { type BlocksComponent, ELEMENT_BYTES, type HoistedInput, type Placement } from '../../format/index.ts'
import { definedIn, indexGraph } from '../graph/graph_index.ts'
import {
  dimsOf,
  floatType,
  type InitializerData,
  type QuantizedMatrix,
  type RawInitializer,
} from '../proto/initializer.ts'
import {
  type GraphProto,
  type NodeProto,
  NodeProtoSchema,
  TensorProto_DataType,
  TensorProtoSchema,
  TensorShapeProto_DimensionSchema,
  TypeProto_TensorSchema,
  ValueInfoProtoSchema,
} from '../proto/onnx_pb.ts'
import type { ResolvedParameter } from '../resolve/resolve.ts'

/** A graph input with the initializer data that it had. */
export interface HoistedWeight {
  input: HoistedInput
  data: InitializerData
}

/**
 * Names of hoisted inputs over all graphs of a model: one name is one buffer, so equal inputs share a name and
 * different ones never do.
 */
export class InputNames {
  readonly #keyOf = new Map<string, string>()
  readonly #nameOf = new Map<string, string>()

  /**
   * @param own - name of the initializer
   * @param free - whether the graph at hand can have an input of that name
   */
  choose(
    own: string,
    { dtype, dims, raw, parts }: Omit<HoistedInput, 'name'>,
    free: (name: string) => boolean,
  ): string {
    const key = JSON.stringify([dtype, dims, raw, parts])
    const candidates = [this.#nameOf.get(key) ?? own, own]
    for (let n = 1; ; n++) {
      const name = candidates.shift() ?? `${own}::${parts[0].tensor}${n === 1 ? '' : `::${n}`}`
      if ((this.#keyOf.get(name) ?? key) !== key || !free(name)) continue
      this.#keyOf.set(name, key)
      if (!this.#nameOf.has(key)) this.#nameOf.set(key, name)
      return name
    }
  }
}

/**
 * Moves initializers of `main` (and of the bodies inside it) to graph inputs, in place. onnxruntime-web lets a
 * caller feed such an input from a GPU buffer of its own; an initializer it keeps to itself.
 * @returns the inputs added, each with its data
 */
export function hoist(
  main: GraphProto,
  resolved: readonly ResolvedParameter[],
  names: InputNames,
): HoistedWeight[] {
  const { graphs, initializers } = indexGraph(main)
  const defined = definitions(graphs)
  const usesOf = new Map(initializers.map((item) => [item.tensor, item.uses]))
  const gone = new Set(resolved.map(({ parameter }) => parameter.tensor))
  const listed = new Set(main.input.map((input) => input.name))
  const weights = new Map<string, HoistedWeight>()
  for (const entry of resolved) {
    const { parameter, data, parts, shift } = entry
    const { tensor } = parameter
    const uses = shift === undefined ? entry.uses : (entry.uses ?? usesOf.get(tensor)!)
    const input = { dtype: data.dtype, dims: data.dims, parts }
    const name = names.choose(tensor.name, input, (candidate) => {
      if (weights.has(candidate) || !defined.has(candidate)) return true
      return candidate === tensor.name && entry.uses === undefined && defined.get(candidate) === 1
    })
    if (name !== tensor.name || uses !== undefined) {
      const value = shift === undefined ? name : addedTo(main, name, shift, data.dtype)
      for (const { node, slot } of uses ?? usesOf.get(tensor)!) node.input[slot] = value
    }
    if (weights.has(name)) continue
    weights.set(name, { input: { name, ...input }, data })
    // Before IR version 4 every initializer was listed as an input as well.
    if (!listed.has(name)) main.input.push(inputInfo(name, data.dims, data.dtype))
  }
  for (const graph of graphs) graph.initializer = graph.initializer.filter((tensor) => !gone.has(tensor))
  const stale = new Set(Array.from(gone, (tensor) => tensor.name).filter((name) => !weights.has(name)))
  main.input = main.input.filter((input) => !stale.has(input.name))
  return [...weights.values()]
}

/** The value of an input with a constant added, computed in the graph. */
function addedTo(main: GraphProto, input: string, shift: number, dtype: HoistedInput['dtype']): string {
  const output = `${input}::shifted`
  const constant = `tritswap::shift::${dtype}`
  if (!main.initializer.some(({ name }) => name === constant)) {
    const values = Float32Array.of(shift)
    const stored = dtype === 'float16' ? floatsToHalves(values) : values
    main.initializer.push(
      create(TensorProtoSchema, {
        name: constant,
        dataType: ONNX_TYPES[dtype],
        rawData: new Uint8Array(stored.buffer),
      }),
    )
  }
  if (!main.node.some((node) => node.output[0] === output)) {
    // First of all, so that bodies of If find it as well.
    main.node.unshift(
      create(NodeProtoSchema, {
        name: `/${output}/Add`,
        opType: 'Add',
        input: [input, constant],
        output: [output],
      }),
    )
  }
  return output
}

/** A quantized weight that stays one. */
export interface QuantizedWeight {
  matrix: QuantizedMatrix
  /** The nodes that multiply with it or look up in it. */
  nodes: readonly NodeProto[]
  /** Rows of the matrix for each tensor that it is made of. */
  parts: readonly { tensor: string; firstRow: number }[]
}

/** Where a component of a tensor lies in the initializer of its matrix: rows follow one another. */
export function componentPlacement(
  tensor: string,
  firstRow: number,
  { rows }: QuantizedMatrix,
  { tensor: whole }: RawInitializer,
): Placement {
  const rowLength = dimsOf(whole).reduce((product, size) => product * size, 1) / rows
  return { tensor, offset: firstRow * rowLength, rowStride: rowLength, colStride: 1 }
}

/** Whether a component of a matrix can be filled from those of the tensors that it is made of, in whole words. */
export function isAligned(kept: Omit<QuantizedWeight, 'nodes'>): boolean {
  return Object.values(kept.matrix.components).every((component) =>
    kept.parts.every(
      ({ tensor, firstRow }) =>
        (componentPlacement(tensor, firstRow, kept.matrix, component).offset *
          ELEMENT_BYTES[typeOf(component)]) %
          4 ===
        0,
    ),
  )
}

/**
 * Moves the initializers of quantized weights (integers, scales, zero points) to graph inputs as they are, in place.
 * MatMulNBits and GatherBlockQuantized run on the GPU with all of them in buffers of ours, so that several graphs
 * can share them.
 */
export function hoistQuantized(
  main: GraphProto,
  kept: readonly QuantizedWeight[],
  names: InputNames,
): HoistedWeight[] {
  const { graphs, initializers } = indexGraph(main)
  const defined = definitions(graphs)
  const usesOf = new Map(initializers.map((item) => [item.tensor, item.uses]))
  const weights = new Map<string, HoistedWeight>()
  const listed = new Set(main.input.map((input) => input.name))
  for (const { matrix, nodes, parts } of kept) {
    for (const [raw, component] of Object.entries(matrix.components) as [BlocksComponent, RawInitializer][]) {
      const { tensor, source, offset } = component
      const dtype = typeOf(component)
      const dims = dimsOf(tensor)
      const input = {
        dtype,
        dims,
        raw,
        parts: parts.map((part) => componentPlacement(part.tensor, part.firstRow, matrix, component)),
      }
      const name = names.choose(
        tensor.name,
        input,
        (candidate) =>
          weights.has(candidate) ||
          !defined.has(candidate) ||
          (candidate === tensor.name && defined.get(candidate) === 1),
      )
      // Another matrix may share the initializer, or take its name for an input of its own.
      for (const { node, slot } of usesOf.get(tensor) ?? [])
        if (isReadBy(nodes, node)) node.input[slot] = name
      if (weights.has(name)) continue
      const length = dims.reduce((product, size) => product * size, 1)
      weights.set(name, { input: { name, ...input }, data: { dtype, dims, length, source, offset } })
      if (!defined.has(name)) defined.set(name, 1)
      if (!listed.has(name)) main.input.push(inputInfo(name, dims, dtype))
    }
  }
  main.initializer = main.initializer.filter(({ name }) => !weights.has(name))
  return [...weights.values()]
}

/** One of these nodes, or the view of a weight that one of them looks up in. */
function isReadBy(nodes: readonly NodeProto[], node: NodeProto): boolean {
  if (node.opType !== 'Reshape') return nodes.includes(node)
  return nodes.some(({ input }) => input[0] === node.output[0])
}

function typeOf({ tensor }: RawInitializer): HoistedInput['dtype'] {
  return floatType(tensor) ?? 'uint8'
}

/** In how many graphs of a model each name is defined. */
function definitions(graphs: readonly GraphProto[]): Map<string, number> {
  const defined = new Map<string, number>()
  for (const name of graphs.flatMap((graph) => [...definedIn(graph)]))
    defined.set(name, (defined.get(name) ?? 0) + 1)
  return defined
}

const ONNX_TYPES = {
  float32: TensorProto_DataType.FLOAT,
  float16: TensorProto_DataType.FLOAT16,
  uint8: TensorProto_DataType.UINT8,
} as const

function inputInfo(name: string, dims: readonly number[], dtype: HoistedInput['dtype']) {
  return create(ValueInfoProtoSchema, {
    name,
    type: {
      value: {
        case: 'tensorType',
        value: create(TypeProto_TensorSchema, {
          elemType: ONNX_TYPES[dtype],
          shape: {
            dim: dims.map((size) =>
              create(TensorShapeProto_DimensionSchema, { value: { case: 'dimValue', value: BigInt(size) } }),
            ),
          },
        }),
      },
    },
  })
}
