/**
 * Bypasses in ordinary memory: the same plans and graph inputs as on a GPU, filled by the reference decoder.
 *
 * @module
 */
import { checkFit, contributionsOf } from '../format/contributions.ts'
import { weightsOf } from '../format/index.ts'
import type { ResidentExpert } from '../gpu/index.ts'
import { BypassBuffers, type BypassFeed } from '../model/bypass_buffers.ts'
import { type BypassEntry, planBypass } from '../model/bypass_plan.ts'
import { type BindingChoice, bindExpert } from '../model/expert_bindings.ts'
import { entriesByGroup, type LayerFactors } from '../model/layer_groups.ts'
import { withMergedScales } from '../model/merged_scales.ts'
import { SiteIndex } from '../model/site_index.ts'
import { addBypass, type BypassGraph } from '../onnx/index.ts'
import type { ReferenceExpert } from './expert.ts'
import type { CpuFeed } from './graph_feeds.ts'
import type { MergeEntry } from './merge.ts'
import { type CpuBuffer, ReferenceUnpacker } from './unpacker.ts'
import type { WeightTable } from './weight_table.ts'

/** A variant of a graph, and what its inputs beyond the graph's own are fed with. */
export interface CpuBypass {
  bytes: Uint8Array
  feeds: ReadonlyMap<string, CpuFeed>
}

/** An expert of a set. */
export interface BypassExpert {
  expert: ReferenceExpert
  weight: number
  /** What the weight is multiplied with by layers. */
  groups?: LayerFactors
  /** Targets that no graph uses; none by default. */
  unused?: ReadonlySet<string>
}

/**
 * Variants of the graphs of a model for a set of experts.
 * @returns variants by file, without the graphs that need none; and what is left to merge
 * @throws {TritswapError} as {@link bindExpert}, and `base` for tensors that do not fit the base's
 */
export async function bypassOnCpu(
  graphs: readonly BypassGraph[],
  experts: readonly BypassExpert[],
  choice: BindingChoice,
  weights: WeightTable,
  sites = new SiteIndex(graphs.map((graph) => [graph.graph.file, graph])),
): Promise<{ variants: Map<string, CpuBypass>; merged: MergeEntry[] }> {
  const values = new Map<ResidentExpert, ReferenceExpert>()
  const bound = experts.map(({ expert, weight, groups, unused }) => {
    const resident = { table: expert.table, evicted: false } as unknown as ResidentExpert
    values.set(resident, expert)
    for (const contribution of contributionsOf(expert.table.tensors)) {
      // Weights that stay integers in a graph are not tensors of the base's file.
      if (weights.knows(contribution.target)) checkFit(contribution, weights.shapeOf(contribution.target))
    }
    return {
      expert: resident,
      weight,
      groups,
      binding: bindExpert(expert.table, choice, weights, sites, unused),
    }
  })
  const entries: BypassEntry[] = withMergedScales(bound).flatMap(entriesByGroup)
  const variants = Array.from(planBypass(entries), ([file, plan]) => {
    const graph = graphs.find(({ graph }) => graph.file === file) as BypassGraph
    return { file, plan, ...addBypass(graph, plan.bypasses) }
  })
  const buffers = new BypassBuffers(new ReferenceUnpacker(values), Number.POSITIVE_INFINITY)
  const { feeds } = await buffers.fill(new Map(variants.map(({ file, ...variant }) => [file, variant])))
  return {
    variants: new Map(
      variants.map(({ file, bytes }) => [file, { bytes, feeds: cpuFeeds(feeds.get(file)!) }]),
    ),
    merged: entries.map(({ expert, weight, binding: { merged } }) => ({
      expert: values.get(expert)!,
      weight,
      only: merged,
    })),
  }
}

function cpuFeeds(feeds: ReadonlyMap<string, BypassFeed<CpuBuffer>>): Map<string, CpuFeed> {
  return new Map(
    Array.from(feeds, ([name, { dtype, dims, buffer }]) => [
      name,
      { dtype, dims, data: buffer.data.subarray(0, weightsOf(dims)) },
    ]),
  )
}
