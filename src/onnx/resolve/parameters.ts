/**
 * Float initializers that a fine-tuning may have moved: not masks, rotary tables or quantization scales.
 *
 * @module
 */
import type { GraphIndex, Reader } from '../graph/graph_index.ts'
import { isStandard, operatorOf } from '../graph/operators.ts'
import type { Layout } from '../proto/initializer_data.ts'
import type { TensorProto } from '../proto/onnx_pb.ts'
import { countOf, dimsOf, floatType } from '../proto/tensors.ts'
import { fusedRows } from './fused_rows.ts'
import { moduleOfNode, parameterOfInitializer } from './names.ts'
import { type Packed, packedIn } from './packed_sizes.ts'
import { readersBehindViews } from './views.ts'

export interface Parameter {
  tensor: TensorProto
  /** Readers that are the same parameter: usually one group; several where an exporter merged equal tensors. */
  groups: ParameterGroup[]
  /** It is not what the checkpoint has: the exporter multiplied the factors of a norm into it. */
  folded: boolean
  /** It has no name and few values: only a checkpoint that has them tells it from a constant of a formula. */
  small: boolean
}

export interface ParameterGroup {
  readers: Reader[]
  /** What the checkpoint may call it, best guess first; nothing where only its values could tell. */
  names: string[]
  /** It multiplies as the weight of a norm: there are models that multiply with 1 + what the checkpoint has. */
  norm: boolean
  /** The layout to expect where there is no checkpoint to compare with. */
  layout: Layout
  /** Rows of q, k and v where it is a fused projection. */
  fused?: number[]
  /** What an optimizer packed into it, under no name of the checkpoint. */
  packed?: Packed
  /** Used as an embedding or its transpose: where a tied pair is one initializer, this gives the name. */
  embedding: boolean
}

/** What an initializer's own name says of it. */
type OwnName = ReturnType<typeof parameterOfInitializer>

/** Below this an unnamed constant is more likely of a formula than a parameter. */
const MIN_VALUES = 16
/** Below this it is one, whatever values a checkpoint has. */
const MIN_SMALL = 4

/** Float initializers that hold parameters, in file order. */
export function findParameters(index: GraphIndex): Parameter[] {
  return index.initializers.flatMap(({ tensor, readers }) => {
    const own = ownName(tensor)
    if (floatType(tensor) === undefined || countOf(tensor) < (own === undefined ? MIN_SMALL : 1)) return []
    const ends = readers.map((reader) => ({ reader, behind: readersBehindViews(index, reader) }))
    const groups = groupsOf(index, tensor, own, ends)
    if (groups === undefined) return []
    const folded = ends.some(({ behind }) => behind.some(isFolded))
    return [{ tensor, groups, folded, small: own === undefined && countOf(tensor) < MIN_VALUES }]
  })
}

/** The readers of an initializer by the parameters that they take it for; undefined where it is none. */
function groupsOf(
  index: GraphIndex,
  tensor: TensorProto,
  own: OwnName,
  ends: readonly { reader: Reader; behind: readonly Reader[] }[],
): ParameterGroup[] | undefined {
  const dims = dimsOf(tensor)
  const byName = new Map<string, ParameterGroup>()
  for (const { reader, behind } of ends) {
    if (behind.length === 0) return undefined
    for (const end of behind) {
      const packed = packedIn(end, dims)
      const trainedAs = packed?.kind ?? operatorOf(end.node).trained?.[end.position]
      if (trainedAs === undefined && !(own !== undefined && takesAnyParameter(end))) return undefined
      const module = trainedAs && moduleOfNode(end.node)
      // An unnamed vector that is added or multiplied may be a constant: it counts only where a module holds it.
      if (own === undefined && module === undefined && packed === undefined && dims.length < 2)
        return undefined
      const group: ParameterGroup = {
        readers: [reader],
        names: [
          ...new Set([module && `${module}.${trainedAs}`, own?.name].filter((name) => name !== undefined)),
        ],
        layout: layoutOf(reader, end, own),
        packed,
        norm: dims.length === 1 && trainedAs === 'weight',
        embedding: operatorOf(end.node).product?.kind === 'embedding',
      }
      group.fused = fusedRows(index, end, group, dims)
      const key = group.names[0] ?? ''
      const known = byName.get(key)
      if (known === undefined) byName.set(key, group)
      else if (!known.readers.includes(reader)) known.readers.push(reader)
    }
  }
  return ends.length === 0 ? undefined : withoutRepeats([...byName.values()])
}

/** What a tensor's own name says of it; two dimensions and no module are a table of an attention (`cos_cache`). */
function ownName(tensor: TensorProto): OwnName {
  const own = parameterOfInitializer(tensor.name)
  return own?.name.includes('.') || tensor.dims.length !== 2 ? own : undefined
}

/** torch numbers the calls of a module that is called again (`query`, `query_1`): all of them read one parameter. */
function withoutRepeats(groups: readonly ParameterGroup[]): ParameterGroup[] {
  const first = new Map(groups.map((group) => [group.names[0], group]))
  return groups.filter((group) => {
    const called = first.get(group.names[0]?.replace(/_\d+(?=\.)/g, ''))
    if (called === undefined || called === group) return true
    called.readers.push(...group.readers.filter((reader) => !called.readers.includes(reader)))
    return false
  })
}

/** Whether what a node reads is a parameter if its own name says so. */
function takesAnyParameter({ node, position }: Reader): boolean {
  const { settings, fusedBias } = operatorOf(node)
  return (isStandard(node) && !settings) || fusedBias?.bias === position
}

/**
 * A convolution that took in the batch norm that follows: torch names neither its weight nor its bias then, or calls the
 * bias after the weight. Others keep the names of their parameters.
 */
function isFolded({ node }: Reader): boolean {
  if (!operatorOf(node).absorbsNorm) return false
  const [, weight, bias = ''] = node.input
  return bias === `${weight}_bias` || [weight, bias].every((name) => /^onnx::Conv/.test(name))
}

/** A parameter under its own name is as torch had it; others are as the operators that read them want them. */
function layoutOf(reader: Reader, { node, position }: Reader, own: OwnName): Layout {
  if (own !== undefined) return own.transposed ? 'transposed' : 'checkpoint'
  const { product } = operatorOf(node)
  const wanted = product?.weight === position ? product.layout(node) : 'checkpoint'
  const isTransposed = reader.node !== node && reader.node.opType === 'Transpose'
  return (wanted === 'transposed') !== isTransposed ? 'transposed' : 'checkpoint'
}
