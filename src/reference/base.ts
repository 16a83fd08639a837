import type { TritTensor } from '../format/index.ts'
import type { BaseIdentity } from '../model/base_check.ts'
import { identify } from '../model/base_identity.ts'
import type { BindingChoice } from '../model/expert_bindings.ts'
import { type FittedExpert, fitExpert, readSketches } from '../model/fitted_expert.ts'
import { SiteIndex } from '../model/site_index.ts'
import { floatDtypeOf, precisionNamed, precisionOf } from '../model/weight_precision.ts'
import { type BypassGraph, integersOf, type OnnxGraph, unusedIn } from '../onnx/index.ts'
import { type BypassExpert, bypassOnCpu, type CpuBypass } from './bypass.ts'
import type { ReferenceExpert } from './expert.ts'
import type { TensorValues } from './merge.ts'
import type { CpuFeed, ReferenceWeights } from './weights.ts'

/** An expert that a base has accepted, its targets under the base's names. */
export interface AdmittedExpert extends Omit<FittedExpert, 'table'> {
  expert: ReferenceExpert
}

/** What a set of experts makes of a base. */
export interface BoundExperts {
  /** Tensors with the experts merged. */
  changed: TensorValues
  /** Variants of the graphs that need one, by file. */
  variants: ReadonlyMap<string, CpuBypass>
}

/** A prepared base that takes experts by the same rules as one in VRAM: the CPU's counterpart of `ExpertHost`. */
export class ReferenceBase {
  readonly weights: ReferenceWeights
  readonly #graphs: readonly BypassGraph[]
  readonly #sites: SiteIndex
  readonly #identity: BaseIdentity

  private constructor(
    weights: ReferenceWeights,
    graphs: readonly BypassGraph[],
    sites: SiteIndex,
    identity: BaseIdentity,
  ) {
    this.weights = weights
    this.#graphs = graphs
    this.#sites = sites
    this.#identity = identity
  }

  /**
   * @param parsed - the prepared graphs
   * @param options.dtype - of the graphs
   */
  static async create(
    weights: ReferenceWeights,
    parsed: readonly OnnxGraph[],
    options: { name: string; fingerprint?: string; dtype: string },
  ): Promise<ReferenceBase> {
    const { table } = weights.head
    const { bindings } = weights
    const tensors = new Map(table.tensors.map((tensor): [string, TritTensor] => [tensor.name, tensor]))
    const graphs = parsed.map((graph): BypassGraph => {
      return {
        graph,
        inputs: bindings.graphs.find(({ file }) => file === graph.file)?.inputs ?? [],
        tensors,
      }
    })
    const integers = parsed.flatMap(integersOf)
    const floats = integers.length > 0 ? 'q8' : floatDtypeOf(bindings)
    const identity = {
      name: options.name,
      fingerprint: table.base.fingerprint ?? options.fingerprint,
      dtype: precisionOf(table) ?? precisionNamed(options.dtype) ?? floats,
      isUnused: unusedIn(parsed),
    }
    return new ReferenceBase(
      weights,
      graphs,
      new SiteIndex(graphs.map((graph) => [graph.graph.file, graph])),
      await identify(weights, identity, table.tensors, integers),
    )
  }

  /**
   * @param name - of the expert, for messages
   * @throws {TritswapError} as `fitExpert`: `mapping`, `base`
   */
  async admit({ table, values }: ReferenceExpert, name: string): Promise<AdmittedExpert> {
    const read = (tensors: readonly string[], seeds: readonly string[]) =>
      readSketches(this.weights, tensors, seeds)
    const { table: fitted, ...rest } = await fitExpert(table, name, this.#identity, read, this.#sites)
    return { ...rest, expert: { table: fitted, values } }
  }

  /** @throws {TritswapError} as {@link bypassOnCpu} */
  async bind(
    experts: readonly (Pick<AdmittedExpert, 'expert' | 'unused'> & { weight: number })[],
    choice: BindingChoice,
  ): Promise<BoundExperts> {
    const set: readonly BypassExpert[] = experts
    const { variants, merged } = await bypassOnCpu(this.#graphs, set, choice, this.weights, this.#sites)
    const changed = this.weights.merged(
      experts.map(({ expert, weight }, i) => ({ expert, weight, only: merged[i] })),
    )
    return { changed, variants }
  }

  /** What feeds the weights of a graph with experts, or without; and the variant of the graph that it takes. */
  feeds(file: string, bound?: BoundExperts): { variant?: Uint8Array; feeds: ReadonlyMap<string, CpuFeed> } {
    const variant = bound?.variants.get(file)
    const feeds = this.weights.feeds(file, bound?.changed, variant && 'leave')
    return { variant: variant?.bytes, feeds: new Map([...feeds, ...(variant?.feeds ?? [])]) }
  }
}
