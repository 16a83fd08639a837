import type { TritTable, TritTensor } from '../format/index.ts'
import type { BaseIdentity } from '../model/base_check.ts'
import { identify } from '../model/base_identity.ts'
import { type FittedExpert, fitExpert, readSketches } from '../model/fitted_expert.ts'
import { LayerGroups } from '../model/layer_groups.ts'
import { SiteIndex } from '../model/site_index.ts'
import { floatDtypeOf, precisionNamed, precisionOf } from '../model/weight_precision.ts'
import { type BypassGraph, integersOf, type OnnxGraph, unusedIn } from '../onnx/index.ts'
import type { WeightTable } from './weight_table.ts'

/** Weights that sketches of experts can be compared with. */
type SketchedWeights = WeightTable & {
  sketchValues(tensors: readonly string[], seeds?: readonly string[]): Promise<Float32Array<ArrayBuffer>>
}

/** What the CPU has to know of a base to take experts by the same rules as one in VRAM. */
export class ExpertFit<W extends SketchedWeights> {
  readonly weights: W
  readonly graphs: readonly BypassGraph[]
  readonly sites: SiteIndex
  readonly layers: LayerGroups
  readonly #identity: BaseIdentity

  private constructor(weights: W, graphs: readonly BypassGraph[], sites: SiteIndex, identity: BaseIdentity) {
    this.weights = weights
    this.layers = new LayerGroups(weights.head.table.tensors.map(({ name }) => name))
    this.graphs = graphs
    this.sites = sites
    this.#identity = identity
  }

  /**
   * @param parsed - the prepared graphs
   * @param options.fingerprint - of its checkpoint; null takes experts of any, whose weights alone tell
   * @param options.dtype - of the graphs
   * @param options.modelType - of the model's configuration
   */
  static async create<W extends SketchedWeights>(
    weights: W,
    parsed: readonly OnnxGraph[],
    options: { name: string; fingerprint?: string | null; dtype: string; modelType?: string },
  ): Promise<ExpertFit<W>> {
    const { table } = weights.head
    const tensors = new Map(table.tensors.map((tensor): [string, TritTensor] => [tensor.name, tensor]))
    const graphs = parsed.map((graph): BypassGraph => {
      return { graph, inputs: weights.inputsOf(graph.file), tensors, modelType: options.modelType }
    })
    const integers = parsed.flatMap(integersOf)
    const floats = integers.length > 0 ? 'q8' : floatDtypeOf(weights.bindings)
    const identity = {
      name: options.name,
      fingerprint: options.fingerprint === null ? undefined : (table.base.fingerprint ?? options.fingerprint),
      dtype: precisionOf(table) ?? precisionNamed(options.dtype) ?? floats,
      isUnused: unusedIn(parsed),
    }
    const sites = new SiteIndex(graphs.map((graph) => [graph.graph.file, graph]))
    return new ExpertFit(weights, graphs, sites, await identify(weights, identity, table.tensors, integers))
  }

  /**
   * @param name - of the expert, for messages
   * @throws {TritswapError} as `fitExpert`: `mapping`, `base`
   */
  fit(table: TritTable, name: string): Promise<FittedExpert> {
    const read = (tensors: readonly string[], seeds: readonly string[]) =>
      readSketches(this.weights, tensors, seeds)
    return fitExpert(table, name, this.#identity, read, this.sites)
  }
}
