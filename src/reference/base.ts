import type { BindingChoice } from '../model/expert_bindings.ts'
import type { FittedExpert } from '../model/fitted_expert.ts'
import type { OnnxGraph } from '../onnx/index.ts'
import { type BypassExpert, bypassOnCpu, type CpuBypass } from './bypass.ts'
import type { ReferenceExpert } from './expert.ts'
import { ExpertFit } from './expert_fit.ts'
import type { CpuFeed } from './graph_feeds.ts'
import type { TensorValues } from './merge.ts'
import type { ReferenceWeights } from './weights.ts'

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
  readonly #fit: ExpertFit<ReferenceWeights>

  private constructor(fit: ExpertFit<ReferenceWeights>) {
    this.weights = fit.weights
    this.#fit = fit
  }

  /** As {@link ExpertFit.create}. */
  static async create(
    weights: ReferenceWeights,
    parsed: readonly OnnxGraph[],
    options: { name: string; fingerprint?: string | null; dtype: string; modelType?: string },
  ): Promise<ReferenceBase> {
    return new ReferenceBase(await ExpertFit.create(weights, parsed, options))
  }

  /**
   * @param name - of the expert, for messages
   * @throws {TritswapError} as `fitExpert`: `mapping`, `base`
   */
  async admit({ table, ...content }: ReferenceExpert, name: string): Promise<AdmittedExpert> {
    const { table: fitted, ...rest } = await this.#fit.fit(table, name)
    return { ...rest, expert: { table: fitted, ...content } }
  }

  /**
   * @param experts - `groups`: what the weight is multiplied with in each of a number of groups of layers
   * @throws {TritswapError} as {@link bypassOnCpu}, and `input` for groups of layers that the base does not have
   */
  async bind(
    experts: readonly (Pick<AdmittedExpert, 'expert' | 'unused'> & {
      weight: number
      groups?: readonly number[]
    })[],
    choice: BindingChoice,
  ): Promise<BoundExperts> {
    const { graphs, sites, layers } = this.#fit
    const set = experts.map(({ groups, ...entry }): BypassExpert => {
      if (groups === undefined) return entry
      layers.check(groups)
      return { ...entry, groups: { factors: groups, layers } }
    })
    const { variants, merged } = await bypassOnCpu(graphs, set, choice, this.weights, sites)
    return { changed: this.weights.merged(merged), variants }
  }

  /** What feeds the weights of a graph with experts, or without; and the variant of the graph that it takes. */
  feeds(file: string, bound?: BoundExperts): { variant?: Uint8Array; feeds: ReadonlyMap<string, CpuFeed> } {
    const variant = bound?.variants.get(file)
    const feeds = this.weights.feeds(file, bound?.changed, variant && 'leave')
    return { variant: variant?.bytes, feeds: new Map([...feeds, ...(variant?.feeds ?? [])]) }
  }
}
