import { create } from '@bufbuild/protobuf'
import type { HoistedInput } from '../format/index.ts'
import type { InitializerData } from './initializer.ts'
import {
  type GraphProto,
  TensorProto_DataType,
  TensorShapeProto_DimensionSchema,
  TypeProto_TensorSchema,
  ValueInfoProtoSchema,
} from './onnx_pb.ts'
import type { ResolvedParameter } from './resolve.ts'
import { definedIn, indexGraph } from './uses.ts'

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

  /** @param free - whether the graph at hand can have an input of that name */
  choose(entry: ResolvedParameter, free: (name: string) => boolean): string {
    const { parameter, data, parts } = entry
    const key = JSON.stringify([data.dtype, data.dims, parts])
    const own = parameter.tensor.name
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
  const defined = new Map<string, number>()
  for (const name of graphs.flatMap((graph) => [...definedIn(graph)]))
    defined.set(name, (defined.get(name) ?? 0) + 1)
  const usesOf = new Map(initializers.map((item) => [item.tensor, item.uses]))
  const gone = new Set(resolved.map(({ parameter }) => parameter.tensor))
  const listed = new Set(main.input.map((input) => input.name))
  const weights = new Map<string, HoistedWeight>()
  for (const entry of resolved) {
    const { parameter, uses, data, parts } = entry
    const { tensor } = parameter
    const name = names.choose(entry, (candidate) => {
      if (weights.has(candidate) || !defined.has(candidate)) return true
      return candidate === tensor.name && uses === undefined && defined.get(candidate) === 1
    })
    if (name !== tensor.name || uses !== undefined) {
      for (const { node, slot } of uses ?? usesOf.get(tensor)!) node.input[slot] = name
    }
    if (weights.has(name)) continue
    weights.set(name, { input: { name, dtype: data.dtype, dims: data.dims, parts }, data })
    // Before IR version 4 every initializer was listed as an input as well.
    if (!listed.has(name)) main.input.push(inputInfo(name, data.dims, data.dtype))
  }
  for (const graph of graphs) graph.initializer = graph.initializer.filter((tensor) => !gone.has(tensor))
  const stale = new Set(Array.from(gone, (tensor) => tensor.name).filter((name) => !weights.has(name)))
  main.input = main.input.filter((input) => !stale.has(input.name))
  return [...weights.values()]
}

function inputInfo(name: string, dims: readonly number[], dtype: HoistedInput['dtype']) {
  return create(ValueInfoProtoSchema, {
    name,
    type: {
      value: {
        case: 'tensorType',
        value: create(TypeProto_TensorSchema, {
          elemType: dtype === 'float32' ? TensorProto_DataType.FLOAT : TensorProto_DataType.FLOAT16,
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
