/**
 * What adapters cost merged, and what they cost beside the weights: which of the two `auto` takes.
 *
 * @module
 */
import type { Contribution } from '../format/contributions.ts'
import type { SiteIndex } from './site_index.ts'

/** What the choice depends on beside the expert. */
export interface Circumstances {
  /** A CPU plays GPU. */
  software: boolean
  /** Forward passes that came between two switches so far. */
  passesPerSwitch: number
  /** VRAM that copies of the base may take, in bytes. */
  copyBudget: number
  /** VRAM that a merge of a whole target takes for what brings the base back, in bytes. */
  copyBytesOf(target: string): number
}

/** Which way an adapter goes, and what was weighed. */
export interface WeighedBinding {
  binding: 'merge' | 'input'
  /** Says what decided, with the estimates. */
  why: string
}

/**
 * Times in µs. `node`: one more node of a graph in each pass. `weight`: a pass over one weight of a merge, with two ternary terms;
 * `rank`: what a low-rank pair takes more for each weight and rank.
 *
 * Software: SwiftShader on two cores of an AMD EPYC, `npm run skills` and the group `bindings` of `npm run bench`. GPU: not
 * measured; 100 GB/s, half a TFLOPS and 5 µs a dispatch are a slow card of its own or a fast one on board.
 */
const COSTS = {
  software: { node: 1500, weight: 0.008, rank: 0.3 },
  gpu: { node: 5, weight: 8e-5, rank: 4e-6 },
} as const
/** Nodes that a contribution adds to a site. */
const NODES = { lowRank: 3, terms: 3, scale: 1 } as const
/** A choice stays until the other one costs this much less. */
const STAYS = 2

/**
 * Weighs the VRAM of a merge, then its time at a switch against that of the inputs in all passes until the next.
 * @param before - what was chosen the last time
 */
export function weigh(
  contributions: readonly Contribution[],
  sites: SiteIndex,
  { software, passesPerSwitch, copyBudget, copyBytesOf }: Circumstances,
  before?: WeighedBinding['binding'],
): WeighedBinding {
  const costs = COSTS[software ? 'software' : 'gpu']
  let merge = 0
  let input = 0
  const copied = new Set<string>()
  for (const contribution of contributions) {
    const { kind, target } = contribution
    if (kind === 'delta' || kind === 'steps') continue
    const all = sites.of(target)
    const [at] = all
    if (at === undefined) continue
    copied.add(target)
    const weights = at.part.rows * at.part.cols
    const passes = kind === 'terms' ? Math.ceil(contribution.terms / 2) : 1
    const rank = kind === 'lowRank' ? contribution.rank : kind === 'scale' ? 1 : 0
    merge += weights * (passes * costs.weight + rank * costs.rank)
    input += all.length * NODES[kind] * costs.node
  }
  const copies = [...copied].reduce((sum, target) => sum + copyBytesOf(target), 0)
  const passes = Math.max(1, Math.round(passesPerSwitch))
  const times = `${time(merge)} for a switch, beside the weights ${time(input * passes)} for the ${passes} passes until the next`
  if (copies > copyBudget) {
    const why = `a merge would keep ${size(copies)} of the base, and ${size(copyBudget)} are for experts`
    return { binding: 'input', why }
  }
  const bar = before === undefined ? 1 : before === 'input' ? 1 / STAYS : STAYS
  const binding = merge > bar * input * passes ? 'input' : 'merge'
  return { binding, why: `estimated ${times}; a merge keeps ${size(copies)} of the base` }
}

function time(us: number): string {
  return us >= 1e6 ? `${(us / 1e6).toPrecision(2)} s` : `${(us / 1000).toPrecision(2)} ms`
}

function size(bytes: number): string {
  return `${Math.round(bytes / 1e6)} MB`
}
