import { type MergeJob, type StreamParams, wordsOfTile } from '../job.ts'
import { STEPS_INVOCATIONS } from '../steps_form.ts'
import { type StreamForm, streamForm } from '../stream_form.ts'
import type { BufferPlacement } from '../weights/placements.ts'
import { type ActiveSet, streamOf, type TensorChange } from './active_set.ts'
import type { WeightedTensor } from './plan.ts'

/** A change, and the set that it belongs to. */
export interface ChangeOfSet {
  set: ActiveSet
  change: TensorChange
}

/** One placement of a tensor on the way from the deltas of one set to those of another. */
export interface DeltaStep {
  from?: ChangeOfSet
  to?: ChangeOfSet
}

export const KERNELS = ['apply', 'revert', 'fused', 'pair', 'blend', 'dense', 'steps'] as const
export type MergeKernel = (typeof KERNELS)[number]

/** A step as kernels take it. */
export interface DeltaJob extends MergeJob {
  kernel: MergeKernel
  placement: BufferPlacement
  displaced?: GPUBufferBinding
  journal?: GPUBufferBinding
  /** Invocations that the kernel has for a block, if it does not walk it. */
  invocations?: number
  /** Of a weight, in units of {@link Batch}. */
  work: number
}

/** What kernels have to do in a step; undefined where neither side has deltas. */
export function jobOf({ from, to }: DeltaStep): DeltaJob | undefined {
  const [old, next] = [sideOf(from), sideOf(to)]
  const where = (to ?? from)?.change
  if (where === undefined || old.parts.length + next.parts.length === 0) return undefined
  const { placement, shape } = where
  const kernel = kernelFor(old.parts, next.parts)
  return {
    kernel,
    shape,
    placement,
    reverted: old.streams,
    applied: next.streams,
    displaced: old.journal,
    journal: next.journal,
    ...(kernel === 'dense' && { invocations: wordsOfTile(shape, placement.dtype) }),
    ...(kernel === 'steps' && { invocations: STEPS_INVOCATIONS }),
    work: old.streams.length + next.streams.length,
  }
}

/** What one set has on the tensor. */
function sideOf(side: ChangeOfSet | undefined): {
  parts: readonly WeightedTensor[]
  streams: readonly StreamParams[]
  journal?: GPUBufferBinding
} {
  if (side?.change.deltas === undefined) return { parts: [], streams: [] }
  const { span, starts } = side.change.deltas
  const { buffer, offset = 0 } = side.set.journal.span(span)
  const parts = side.change.plan.deltas
  return {
    parts,
    // The whole buffer is bound: what other tensors have in it then needs no binding of its own.
    streams: parts.map((part, i) => streamOf(side.set.entries, part, offset / 4 + starts[i])),
    journal: { buffer },
  }
}

/** The kernel that goes from the deltas of one side to those of the other in one pass; undefined where there is none. */
export function kernelOfPass({ from, to }: DeltaStep): MergeKernel | undefined {
  const [old, next] = [from, to].map((side) => side?.change.plan.deltas ?? [])
  const isOnePass =
    old.length === 0 || next.length === 0 || (kindOf(old) === 'steps') === (kindOf(next) === 'steps')
  return isOnePass ? kernelFor(old, next) : undefined
}

/**
 * The kernels that bring deltas onto a tensor, take them off again, and go from them to others like them. Whatever set comes before
 * or after, two of these do.
 */
export function kernelsOf(deltas: readonly WeightedTensor[]): MergeKernel[] {
  if (deltas.length === 0) return []
  const all = [kernelFor([], deltas), kernelFor(deltas, []), kernelFor(deltas, deltas)]
  // A pass may leave experts out that do not act in it.
  return deltas.filter(({ tensor }) => streamForm(tensor).kind === 'golomb').length > 1
    ? [...all, 'pair']
    : all
}

/** What the deltas of a tensor are, all of them. */
type DeltaKind = 'none' | StreamForm['kind'] | 'mixed'

/** Of deltas in use: a switch asks for that of each tensor several times. */
const kinds = new WeakMap<readonly WeightedTensor[], DeltaKind>()

function kindOf(deltas: readonly WeightedTensor[]): DeltaKind {
  if (deltas.length === 0) return 'none'
  let kind = kinds.get(deltas)
  if (kind === undefined) {
    const all = new Set(deltas.map(({ tensor }) => streamForm(tensor).kind))
    const [first] = all
    kind = all.size === 1 ? first : 'mixed'
    kinds.set(deltas, kind)
  }
  return kind
}

/** The narrowest kernel for a switch: the fast ones know one or two ternary streams on each side, or only dense ones. */
function kernelFor(reverted: readonly WeightedTensor[], applied: readonly WeightedTensor[]): MergeKernel {
  const [from, to] = [kindOf(reverted), kindOf(applied)]
  const kind = from === 'none' || from === to ? to : to === 'none' ? from : 'mixed'
  if (kind === 'steps' || kind === 'dense') return kind
  if (kind === 'mixed' || applied.length > 2) return 'blend'
  if (reverted.length > 1 || applied.length > 1) return 'pair'
  return reverted.length === 0 ? 'apply' : applied.length === 0 ? 'revert' : 'fused'
}
