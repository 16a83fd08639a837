/**
 * What a contribution to a weight is beside the weight: terms that the sites holding it compute from their inputs.
 * They settle as a merge does; scales that would reach what other experts merge are merged too (`merged_scales.ts`).
 *
 * @module
 */
import { formOf } from '../format/codecs/index.ts'
import {
  type Contribution,
  type Delta,
  type Factor,
  type LowRank,
  pairOfTerms,
  type Scale,
  type StepsDelta,
} from '../format/contributions.ts'
import type { SiteIndex, TargetSite } from './site_index.ts'

type TensorTerm = 'side' | 'delta' | 'inputScale' | 'outputScale' | 'bias' | 'virtual'

/**
 * One contribution at one site. `side`: a ternary delta as 2-bit codes; `delta`: a delta in floats; `lowRank`: down to
 * the rank and up again; the scales multiply the site's inputs or outputs, `bias` is added to its outputs, `virtual` is looked up
 * in its place, or put out in place of a layer's keys or values.
 */
export type BypassTerm = TargetSite &
  (
    | { [K in TensorTerm]: { kind: K /** In the expert's table. */; index: number } }[TensorTerm]
    | { kind: 'lowRank'; down: Factor; up: Factor; rank: number; scaling: number }
  )

export interface SiteTerms {
  terms: BypassTerm[]
  /** It belongs to one of several modules that share the weight, so a merge would change the other modules too. */
  isPartial: boolean
}

/**
 * The terms of a contribution, one a site; none, or too few, where a site cannot have one.
 * @param inFloats - whether ternary deltas too come as floats
 */
export function termsOf(
  contribution: Exclude<Contribution, StepsDelta>,
  sites: SiteIndex,
  inFloats: boolean,
): SiteTerms {
  const all = sites.of(contribution.target)
  if (contribution.kind === 'virtual') {
    const { index } = contribution
    const lookups = all.filter(({ site }) => site.readsPrompt || site.kind === 'cache')
    return { terms: lookups.map((at) => ({ ...at, kind: 'virtual', index })), isPartial: true }
  }
  const { ofEmbedding } = contribution
  const own = all.filter(
    ({ site }) => (site.kind === 'embedding') === (ofEmbedding ?? site.kind === 'embedding'),
  )
  const terms = own.flatMap((at) => {
    if (contribution.kind === 'delta') return deltaTerm(at, contribution, inFloats)
    if (contribution.kind === 'terms') return lowRankTerm(at, { ...pairOfTerms(contribution), scaling: 1 })
    return contribution.kind === 'lowRank' ? lowRankTerm(at, contribution) : scaleTerm(at, contribution)
  })
  if (all.length === 0 && contribution.kind === 'delta') terms.push(...biasTerm(contribution, sites))
  return { terms, isPartial: own.length > 0 && own.length < all.length }
}

function deltaTerm(at: TargetSite, { index, tensor }: Delta, inFloats: boolean): BypassTerm {
  const isSide = at.site.kind === 'linear' && formOf(tensor).kind === 'golomb' && !inFloats
  return { ...at, kind: isSide ? 'side' : 'delta', index }
}

/** A bias that one site alone adds. */
function biasTerm({ target, index }: Delta, sites: SiteIndex): BypassTerm[] {
  const found = sites.ofBias(target)
  if (found.length !== 1) return []
  const [{ graph, site, firstOutput, outputs }] = found
  const part = { target, rows: 1, cols: outputs, firstOutput, transposed: false }
  return [{ graph, site, part, kind: 'bias', index }]
}

function lowRankTerm(
  at: TargetSite,
  { left, right, rank, scaling }: Pick<LowRank, 'left' | 'right' | 'rank' | 'scaling'>,
): BypassTerm {
  // A site's inputs are the rows of a transposed weight, else its columns.
  const [down, up] = at.part.transposed ? [left, right] : [right, left]
  return { ...at, kind: 'lowRank', down, up, rank, scaling }
}

function scaleTerm(at: TargetSite, { over, index, bias }: Scale): BypassTerm[] {
  const { site, part } = at
  // The parts of a fused site share their inputs.
  if ((over === 'rows') === part.transposed)
    return site.parts.length === 1 ? [{ ...at, kind: 'inputScale', index }] : []
  // The outputs of a site are scaled with the bias that they hold, and it must be the module's.
  const hasBias = bias === undefined || site.bias.some(({ target }) => target === bias.target)
  return hasBias ? [{ ...at, kind: 'outputScale', index }] : []
}
