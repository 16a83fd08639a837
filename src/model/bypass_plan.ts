/**
 * What a set of experts needs of each graph: at which sites its variant has a bypass, of which kinds, and the terms
 * that go into it.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import type { ResidentExpert } from '../gpu/index.ts'
import type { Site, SiteBypass } from '../onnx/index.ts'
import type { BypassTerm } from './bypass_terms.ts'
import type { ExpertBinding } from './expert_bindings.ts'

/** An expert of a set. */
export interface BypassEntry {
  expert: ResidentExpert
  weight: number
  binding: ExpertBinding
}

/** A term with the expert that it comes from. */
export type ExpertTerm<K extends BypassTerm['kind'] = BypassTerm['kind']> = Extract<BypassTerm, { kind: K }> &
  Pick<BypassEntry, 'expert' | 'weight'>

/** All terms of a set at one site. */
export interface SitePlan {
  site: Site
  /** Expert by expert: a fused site takes several tensors of each. */
  side: ExpertTerm<'side'>[][]
  lowRank: ExpertTerm<'lowRank'>[]
  delta: ExpertTerm<'delta'>[]
  inputScale: ExpertTerm<'inputScale'>[]
  outputScale: ExpertTerm<'outputScale'>[]
  bias: ExpertTerm<'bias'>[]
  virtual: ExpertTerm<'virtual'>[]
}

/** All terms of a set in one graph. */
export interface GraphPlan {
  /** What the graph's variant has, by site. */
  bypasses: ReadonlyMap<string, SiteBypass>
  sites: ReadonlyMap<string, SitePlan>
}

/** Numbers of side inputs that variants have at a site: the next one up serves sets of a size between two. */
const SIDE_STEPS = [1, 2, 4, 8] as const

/**
 * @returns plans by graph, without the graphs that need no bypass
 * @throws {TritswapError} `unsupported` for more experts at one site than a variant has side inputs
 */
export function planBypass(entries: readonly BypassEntry[]): Map<string, GraphPlan> {
  checkVirtual(entries)
  const graphs = new Map<string, Map<string, SitePlan>>()
  for (const { expert, weight, binding } of entries) {
    if (weight === 0) continue
    const sides = new Map<SitePlan, ExpertTerm<'side'>[]>()
    for (const term of binding.bypass) {
      const plan = planAt(graphs, term)
      if (term.kind !== 'side') {
        const list: ExpertTerm[] = plan[term.kind]
        list.push({ ...term, expert, weight })
        continue
      }
      const own = sides.get(plan) ?? []
      if (own.length === 0) plan.side.push(own)
      sides.set(plan, own)
      own.push({ ...term, expert, weight })
    }
  }
  return new Map(
    Array.from(graphs, ([graph, sites]) => {
      const bypasses = new Map(Array.from(sites, ([key, plan]) => [key, bypassOf(plan)]))
      return [graph, { bypasses, sites }]
    }),
  )
}

/** @throws {TritswapError} `unsupported` for the virtual tokens of several experts, `input` for those that are weighed */
function checkVirtual(entries: readonly BypassEntry[]): void {
  const virtual = entries.filter(
    ({ weight, binding }) => weight !== 0 && binding.bypass.some(({ kind }) => kind === 'virtual'),
  )
  if (virtual.length > 1) {
    throw new TritswapError(
      'unsupported',
      `Cannot use ${virtual.length} experts with virtual tokens together: each was trained to stand before the prompt alone; use one of them`,
      { fields: { experts: virtual.length } },
    )
  }
  for (const { weight } of virtual) {
    if (weight === 1) continue
    throw new TritswapError(
      'input',
      `Cannot weigh virtual tokens with ${weight}: expected 1, or 0 to leave them out; a part of their rows is other tokens`,
      { fields: { weight } },
    )
  }
}

function planAt(graphs: Map<string, Map<string, SitePlan>>, { graph, site }: BypassTerm): SitePlan {
  const sites = graphs.get(graph) ?? new Map<string, SitePlan>()
  graphs.set(graph, sites)
  const plan = sites.get(site.key) ?? {
    site,
    side: [],
    lowRank: [],
    delta: [],
    inputScale: [],
    outputScale: [],
    bias: [],
    virtual: [],
  }
  sites.set(site.key, plan)
  return plan
}

function bypassOf({ site, side, ...others }: SitePlan): SiteBypass {
  const bypass: SiteBypass = {}
  if (side.length > 0) {
    bypass.side = SIDE_STEPS.find((count) => count >= side.length)
    if (bypass.side === undefined) {
      const [limit, target] = [SIDE_STEPS.at(-1), site.parts[0].target]
      throw new TritswapError(
        'unsupported',
        `Cannot put ${side.length} experts beside ${target}: the limit is ${limit}`,
        { fields: { target, experts: side.length, limit } },
      )
    }
  }
  for (const kind of ['lowRank', 'delta', 'inputScale', 'outputScale', 'bias', 'virtual'] as const)
    if (others[kind].length > 0) bypass[kind] = true
  return bypass
}
