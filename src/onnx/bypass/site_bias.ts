import { type HoistedInput, tilingOf } from '../../format/index.ts'
import type { GraphIndex, Reader } from '../graph/graph_index.ts'
import { operatorOf } from '../graph/operators.ts'
import type { FusedBiasInput, SiteBias, SiteOccurrence, SiteTensors } from './site.ts'

/** A product with its bias. */
export interface BiasedOccurrence {
  occurrence: SiteOccurrence
  bias: readonly SiteBias[]
  /** Some of its bias is not a tensor of the container. */
  hasFixedBias: boolean
}

/** The product that a node computes with the weight that it reads. */
export function occurrenceAt({ node, graph }: Reader): SiteOccurrence {
  const position = operatorOf(node).product!.data
  return {
    graph,
    readers: [{ node, position, graph }],
    input: node.input[position],
    output: node.output[0],
    maker: node,
    node,
    views: [],
  }
}

/** Finds the biases of products, which the operator itself adds, an Add that follows, or a fused operator that follows. */
export class BiasFinder {
  readonly #index: GraphIndex
  readonly #inputs: ReadonlyMap<string, HoistedInput>
  readonly #tensors: SiteTensors
  /** Lengths of the vectors that a bias may be. */
  readonly #lengths = new Map<string, number>()

  constructor(index: GraphIndex, inputs: readonly HoistedInput[], tensors: SiteTensors) {
    this.#index = index
    this.#inputs = new Map(inputs.map((input) => [input.name, input]))
    this.#tensors = tensors
    for (const { tensor } of index.initializers)
      if (tensor.dims.length === 1) this.#lengths.set(tensor.name, Number(tensor.dims[0]))
    for (const { name, dims } of inputs) if (dims.length === 1) this.#lengths.set(name, dims[0])
  }

  /** @param outputs - of the site */
  withBias(occurrence: SiteOccurrence, outputs: number): BiasedOccurrence {
    const { node, graph, output } = occurrence
    const { product } = operatorOf(node)
    if (product?.kind === 'embedding') return { occurrence, bias: [], hasFixedBias: false }
    const own = product?.bias === undefined ? undefined : node.input[product.bias]
    if (own) return { occurrence, ...this.#biasOf(own, 0, outputs) }
    const readers = this.#index.readersOf(graph, output)
    const fusedBias = readers.flatMap((reader) => this.#fusedAt(reader, occurrence, outputs) ?? [])[0]
    if (fusedBias !== undefined) {
      const bias = fusedBias.node.input[fusedBias.position]
      return {
        occurrence: { ...occurrence, fusedBias },
        ...this.#biasOf(bias, fusedBias.first, outputs),
      }
    }
    const isResult = graph.output.some(({ name }) => name === output)
    const [add, ...others] = readers
    if (isResult || others.length > 0 || add?.node.opType !== 'Add' || add.graph !== graph)
      return { occurrence, bias: [], hasFixedBias: false }
    const bias = add.node.input[1 - add.position]
    if (this.#lengths.get(bias) !== outputs) return { occurrence, bias: [], hasFixedBias: false }
    return {
      occurrence: { ...occurrence, output: add.node.output[0], maker: add.node },
      ...this.#biasOf(bias, 0, outputs),
    }
  }

  #biasOf(bias: string, first: number, outputs: number): Pick<BiasedOccurrence, 'bias' | 'hasFixedBias'> {
    const found = this.#tensorsOf(bias, first, outputs)
    return { bias: found, hasFixedBias: found.reduce((sum, part) => sum + part.outputs, 0) < outputs }
  }

  /** The bias that a reader of a product adds to it. */
  #fusedAt({ node, position, graph }: Reader, occurrence: SiteOccurrence, outputs: number) {
    const { fusedBias } = operatorOf(node)
    const at = fusedBias?.to.indexOf(position) ?? -1
    if (fusedBias === undefined || at < 0 || graph !== occurrence.graph) return undefined
    const length = this.#lengths.get(node.input[fusedBias.bias] ?? '')
    if (length === undefined) return undefined
    // Of two products that are added, either may have the bias.
    const isProduct = (value: string) =>
      graph.node.some((maker) => maker.output[0] === value && operatorOf(maker).product !== undefined)
    const others = fusedBias.concat ? [] : fusedBias.to.filter((other) => other !== position)
    if (others.some((other) => isProduct(node.input[other]))) return undefined
    // Queries and keys have the same length.
    const first = fusedBias.concat ? [0, outputs, length - outputs][at] : 0
    const found: FusedBiasInput = { node, position: fusedBias.bias, length, first }
    return found
  }

  /** The tensors of the container in some elements of a bias. */
  #tensorsOf(bias: string, first: number, count: number): SiteBias[] {
    const parts = this.#inputs.get(bias)?.parts ?? []
    return parts.flatMap(({ tensor, offset, colStride }) => {
      const found = this.#tensors.get(tensor)
      if (found === undefined || colStride !== 1) return []
      const { rows, cols } = tilingOf(found.shape)
      const firstOutput = offset - first
      if (rows !== 1 || firstOutput < 0 || firstOutput + cols > count) return []
      return [{ target: found.target, firstOutput, outputs: cols }]
    })
  }
}
