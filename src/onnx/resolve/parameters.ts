import { type GraphIndex, intAttribute, type Use } from '../graph/graph_index.ts'
import { dimsOf, floatType } from '../proto/initializer.ts'
import type { GraphProto, TensorProto } from '../proto/onnx_pb.ts'
import { moduleOfNode, parameterOfInitializer, partsOfFused } from './names.ts'

/** `checkpoint`: as in the checkpoint, row-major. `transposed`: the matrix turned, as ONNX MatMul wants it. */
export type Layout = 'checkpoint' | 'transposed'

/** A float initializer that a fine-tuning may have moved: not a mask, a rotary table or a quantization scale. */
export interface Parameter {
  tensor: TensorProto
  owner: GraphProto
  /** Readers that are the same parameter: usually one group; several where an exporter merged equal tensors. */
  groups: ParameterGroup[]
  /** It is not what the checkpoint has: the exporter multiplied the factors of a norm into it. */
  folded: boolean
}

export interface ParameterGroup {
  uses: Use[]
  /** What the checkpoint may call it, best guess first; nothing where only its values could tell. */
  names: string[]
  /** It multiplies as the weight of a norm: there are models that multiply with 1 + what the checkpoint has. */
  norm: boolean
  /** The layout to expect where there is no checkpoint to compare with. */
  layout: Layout
  /** Rows of q, k and v where it is a fused projection. */
  fused?: number[]
  /** Used as an embedding or its transpose: where a tied pair is one initializer, this gives the name. */
  embedding: boolean
}

/** Inputs of operators that take trained values. */
const TRAINED: Record<string, Record<number, 'weight' | 'bias'>> = {
  MatMul: { 0: 'weight', 1: 'weight' },
  FusedMatMul: { 1: 'weight' },
  MatMulNBits: { 5: 'bias' },
  Gemm: { 1: 'weight', 2: 'bias' },
  FusedGemm: { 1: 'weight', 2: 'bias' },
  Conv: { 1: 'weight', 2: 'bias' },
  FusedConv: { 1: 'weight', 2: 'bias' },
  ConvTranspose: { 1: 'weight', 2: 'bias' },
  Gather: { 0: 'weight' },
  LayerNormalization: { 1: 'weight', 2: 'bias' },
  SimplifiedLayerNormalization: { 1: 'weight' },
  RMSNormalization: { 1: 'weight' },
  SkipLayerNormalization: { 2: 'weight', 3: 'bias' },
  SkipSimplifiedLayerNormalization: { 2: 'weight' },
  BatchNormalization: { 1: 'weight', 2: 'bias' },
  InstanceNormalization: { 1: 'weight', 2: 'bias' },
  GroupNormalization: { 1: 'weight', 2: 'bias' },
  GroupNorm: { 1: 'weight', 2: 'bias' },
  BiasGelu: { 1: 'bias' },
  FastGelu: { 1: 'bias' },
  Mul: { 0: 'weight', 1: 'weight' },
  Add: { 0: 'bias', 1: 'bias' },
}

/**
 * Operators whose constants say how to compute, or hold a weight in other numbers: what they read is no parameter,
 * whatever its name. Through all others a parameter may reach the model, if its own name says that it is one.
 */
const SETTINGS = new Set([
  'Clip',
  'ConstantOfShape',
  'ConvInteger',
  'DequantizeLinear',
  'MatMulInteger',
  'OneHot',
  'Pad',
  'QLinearConv',
  'QLinearMatMul',
  'QuantizeLinear',
  'Range',
  'Resize',
  'Upsample',
])

/** Operators that only change how a parameter is looked at: its role is decided behind them. */
const VIEWS = new Set(['Transpose', 'Cast', 'Identity', 'Reshape', 'Squeeze', 'Unsqueeze'])

/** Below this an unnamed constant is more likely a scalar of a formula than a parameter. */
const MIN_VALUES = 16

/** Float initializers that hold parameters, in file order. */
export function findParameters(index: GraphIndex): Parameter[] {
  return index.initializers.flatMap(({ tensor, owner, uses }) => {
    if (floatType(tensor) === undefined || uses.length === 0) return []
    const own = ownName(tensor)
    const values = dimsOf(tensor).reduce((product, size) => product * size, 1)
    if (values < (own === undefined ? MIN_VALUES : 1)) return []

    const byName = new Map<string, ParameterGroup>()
    for (const use of uses) {
      const ends = endsOf(index, use)
      const roles = ends.map((end) => TRAINED[end.node.opType]?.[end.slot])
      if (ends.length === 0 || ends.some((end, i) => !isParameterSlot(end, roles[i], own !== undefined)))
        return []
      for (const [i, end] of ends.entries()) {
        const role = roles[i]
        const module = role && moduleOfNode(end.node)
        // An unnamed vector beside Add or Mul may be a constant: it counts only where a module holds it.
        if (own === undefined && module === undefined && dimsOf(tensor).length < 2) return []
        const transposed = turnedOnTheWay(use, end)
        const group: ParameterGroup = {
          uses: [use],
          names: [
            ...new Set([module && `${module}.${role}`, own?.name].filter((name) => name !== undefined)),
          ],
          layout: layoutOf(end, transposed, own),
          norm: dimsOf(tensor).length === 1 && roles[i] === 'weight',
          embedding: end.node.opType === 'Gather',
        }
        group.fused = fusedRows(index, end, group, dimsOf(tensor))
        const key = group.names[0] ?? ''
        const known = byName.get(key)
        if (known === undefined) byName.set(key, group)
        else if (!known.uses.includes(use)) known.uses.push(use)
      }
    }
    const folded = uses.some((use) => endsOf(index, use).some((end) => isFolded(end)))
    return [{ tensor, owner, groups: withoutRepeats([...byName.values()]), folded }]
  })
}

/** What a tensor's own name says of it; two dimensions and no module are a table of an attention (`cos_cache`). */
function ownName(tensor: TensorProto): ReturnType<typeof parameterOfInitializer> {
  const own = parameterOfInitializer(tensor.name)
  return own?.name.includes('.') || dimsOf(tensor).length !== 2 ? own : undefined
}

/** torch numbers the calls of a module that is called again (`query`, `query_1`): all of them read one parameter. */
function withoutRepeats(groups: readonly ParameterGroup[]): ParameterGroup[] {
  const first = new Map(groups.map((group) => [group.names[0], group]))
  return groups.filter((group) => {
    const called = first.get(group.names[0]?.replace(/_\d+(?=\.)/g, ''))
    if (called === undefined || called === group) return true
    called.uses.push(...group.uses.filter((use) => !called.uses.includes(use)))
    return false
  })
}

/** Operators whose weights are integers: a merge cannot change them. */
const INTEGER_WEIGHTS = new Set([
  'ConvInteger',
  'DynamicQuantizeMatMul',
  'GatherBlockQuantized',
  'MatMulBnb4',
  'MatMulInteger',
  'MatMulNBits',
  'QLinearConv',
  'QLinearMatMul',
])

/** Names of nodes whose weights are quantized. */
export function quantizedNodes(index: GraphIndex): string[] {
  return index.graphs.flatMap((graph) =>
    graph.node.filter(({ opType }) => INTEGER_WEIGHTS.has(opType)).map(({ name }) => name),
  )
}

function isParameterSlot({ node }: Use, role: 'weight' | 'bias' | undefined, named: boolean): boolean {
  return role !== undefined || (named && isStandard(node) && !SETTINGS.has(node.opType))
}

/**
 * A convolution that took in the batch norm behind it: torch names neither its weight nor its bias then, or calls the
 * bias after the weight. Others keep the names of their parameters.
 */
function isFolded({ node }: Use): boolean {
  if (node.opType !== 'Conv' && node.opType !== 'ConvTranspose') return false
  const [, weight, bias = ''] = node.input
  if (bias === `${weight}_bias`) return true
  return [weight, bias].every((name) => /^onnx::Conv/.test(name))
}

/** An operator of ONNX itself: those of other domains have inputs for tables, scales and the like. */
function isStandard({ domain }: Use['node']): boolean {
  return domain === '' || domain === 'ai.onnx'
}

/** The readers behind views of an initializer. */
export function endsOf(index: GraphIndex, use: Use, depth = 0): Use[] {
  if (!VIEWS.has(use.node.opType) || use.slot !== 0 || depth > 4) return [use]
  return index.readersOf(use.graph, use.node.output[0]).flatMap((next) => endsOf(index, next, depth + 1))
}

/** A Transpose between the initializer and the end that uses it. */
function turnedOnTheWay(use: Use, end: Use): boolean {
  return use !== end && use.node.opType === 'Transpose'
}

function layoutOf(end: Use, transposed: boolean, own: { transposed: boolean } | undefined): Layout {
  // A parameter under its own name is as torch had it; what MatMul reads without one was turned by the exporter.
  if (own !== undefined) return own.transposed ? 'transposed' : 'checkpoint'
  const { opType } = end.node
  const inByOut =
    (opType === 'MatMul' && end.slot === 1) ||
    (opType === 'Gemm' && end.slot === 1 && !intAttribute(end.node, 'transB'))
  return inByOut !== transposed ? 'transposed' : 'checkpoint'
}

/** Rows of q, k and v in a fused projection, from the attention node that it leads to. */
function fusedRows(
  index: GraphIndex,
  end: Use,
  { names, layout }: ParameterGroup,
  dims: readonly number[],
): number[] | undefined {
  if (dims.length > 2 || !names.some((name) => partsOfFused(name) !== undefined)) return undefined
  const rows = layout === 'transposed' ? dims[1] : dims[0]
  let ends: Use[] = [end]
  for (let step = 0; step < 3; step++) {
    ends = ends.flatMap(({ node, graph }) => node.output.flatMap((value) => index.readersOf(graph, value)))
    const attention = ends.find(({ node }) => node.opType === 'GroupQueryAttention')?.node
    if (attention === undefined) continue
    const heads = intAttribute(attention, 'num_heads') ?? 0
    const kvHeads = intAttribute(attention, 'kv_num_heads') ?? 0
    const size = rows / (heads + 2 * kvHeads)
    return Number.isInteger(size) && size > 0 ? [heads * size, kvHeads * size, kvHeads * size] : undefined
  }
  return undefined
}
