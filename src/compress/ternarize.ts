/**
 * Ternary tensors: which entries are kept, under a threshold of one tensor or of several, and what they are worth.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { encodeBlocks } from '../format/codecs/ternary_encode.ts'
import { type Entries, gatherEntries } from './entries.ts'
import type { RunJob } from './jobs.ts'
import { addMoments, type Moments } from './moments.ts'
import type { TernaryRule } from './rules.ts'
import { type Candidate, type Selection, selectLargest } from './select.ts'

/** A tensor that becomes ternary, with the moments that the first pass found. */
export interface TernaryMember extends Candidate {
  rule: TernaryRule
  moments: Moments
}

/** What the tensors that share a threshold have in common. */
export interface ThresholdGroup {
  selections: Map<TernaryMember, Selection>
  moments: Moments
  /** Over all kept entries of the group; undefined until its one tensor is encoded. */
  kept?: KeptSum
}

interface KeptSum {
  kept: number
  /** Σ |tau|. */
  sum: number
}

/** Groups of tensors under a global threshold: those of one density and one score compete with each other. */
export async function globalGroups(
  members: readonly TernaryMember[],
  run: RunJob,
  signal?: AbortSignal,
): Promise<Map<TernaryMember, ThresholdGroup>> {
  const competing = new Map<string, TernaryMember[]>()
  for (const member of members) {
    const { threshold, density, score } = member.rule
    if (threshold !== 'global') continue
    const key = `${density} ${score}`
    competing.set(key, [...(competing.get(key) ?? []), member])
  }
  const groups = new Map<TernaryMember, ThresholdGroup>()
  for (const members of competing.values()) {
    const group = await groupOf(members, run, signal)
    for (const member of members) groups.set(member, group)
    if (members.every(({ rule }) => rule.scale === 'std')) continue
    // The first tensor is written with the scale that all share, so their kept entries are summed up before it.
    group.kept = { kept: 0, sum: 0 }
    for (const member of members) {
      const { codes, sum } = await entriesOf(member, group, run, signal)
      group.kept = { kept: group.kept.kept + codes.length, sum: group.kept.sum + sum }
    }
  }
  return groups
}

/** Selects the best entries among some tensors together. */
export async function groupOf(
  members: readonly TernaryMember[],
  run: RunJob,
  signal?: AbortSignal,
): Promise<ThresholdGroup> {
  const moments = members.map((member) => member.moments).reduce(addMoments)
  const keep = Math.floor(members[0].rule.density * moments.count + 0.5)
  const selections = await selectLargest(members, keep, run, signal)
  return { selections: new Map(members.map((member, i) => [member, selections[i]])), moments }
}

/** A tensor's code and scale; `unit` is the scale at alpha = 1 before it is rounded. */
export async function ternarize(
  member: TernaryMember,
  group: ThresholdGroup,
  run: RunJob,
  signal?: AbortSignal,
) {
  const entries = await entriesOf(member, group, run, signal)
  const kept = group.kept ?? { kept: entries.codes.length, sum: entries.sum }
  const unit = unitOf(member.rule, group.moments, kept)
  const scale = roundScale(member.rule.alpha * unit, member.tensor.name)
  return { section: encodeBlocks(entries), unit, scale, sumKept: entries.sum }
}

function entriesOf(
  member: TernaryMember,
  { selections }: ThresholdGroup,
  run: RunJob,
  signal?: AbortSignal,
): Promise<Entries> {
  return gatherEntries(member.tensor, { ...selections.get(member)!, score: member.score }, run, signal)
}

/** What every kept entry is worth before alpha (`Scale` in rules.ts). */
function unitOf({ scale }: TernaryRule, { count, m2, sumSquares }: Moments, { kept, sum }: KeptSum): number {
  // A single entry has no deviation; its magnitude is used instead.
  if (scale === 'std') return count > 1 ? Math.sqrt(m2 / (count - 1)) : Math.sqrt(sumSquares)
  if (kept === 0) return 0
  return scale === 'mean' ? sum / kept : sumSquares / sum
}

/** @throws {TritswapError} `input` for a scale that no f32 holds */
export function roundScale(exact: number, name: string): number {
  const scale = Math.fround(exact)
  if (Number.isFinite(scale)) return scale
  throw new TritswapError(
    'input',
    `Cannot compress ${name}: its scale of ${exact} is over the largest f32; use a smaller alpha`,
    { fields: { tensor: name, scale: exact } },
  )
}
