import { tilingOf, weightsOf } from '../../format/index.ts'
import type { ResidentExpert } from '../experts/resident_expert.ts'
import { type StreamParams, streamParams } from '../job.ts'
import { streamForm } from '../stream_form.ts'
import { PER_WORD } from '../target.ts'
import type { BufferPlacement } from '../weights/placements.ts'
import type { WeightStore } from '../weights/weight_store.ts'
import type { Journal, SpanRequest } from './journal.ts'
import type { TargetPlan, WeightedTensor } from './plan.ts'
import type { WeightSlots } from './weight_slots.ts'

export interface SetEntry {
  expert: ResidentExpert
  weight: number
  /** Tensors of its table that are merged; all by default. The others reach their targets by a bypass. */
  only?: ReadonlySet<number>
}

/** What a set does to one placement of a base tensor. */
export interface TensorChange {
  plan: TargetPlan
  placement: BufferPlacement
  shape: readonly number[]
  /** The span of the journal for what the deltas displace, and the word of it where each delta starts. */
  deltas?: { span: number; starts: readonly number[] }
}

/** A set that is on the weights, or on its way there. */
export interface ActiveSet {
  entries: readonly SetEntry[]
  journal: Journal
  /** By target and number of the placement. */
  changes: ReadonlyMap<string, TensorChange>
}

/** What a set does to each tensor, and the spans of its journal. */
export interface SetLayout {
  changes: ReadonlyMap<string, TensorChange>
  spans: readonly SpanRequest[]
}

/** Where the weights that a set displaces go. @param lanes - that share a block */
export function layOut(
  plans: ReadonlyMap<string, TargetPlan>,
  weights: WeightStore,
  slots: WeightSlots,
  lanes: number,
): SetLayout {
  const changes = new Map<string, TensorChange>()
  const spans: SpanRequest[] = []
  for (const plan of plans.values()) {
    const shape = weights.shapeOf(plan.target)
    for (const [i, placement] of weights.floatPlacementsOf(plan.target).entries()) {
      const change: TensorChange = { plan, placement, shape }
      const { group } = slots.of(placement.buffer)
      if (plan.deltas.length > 0) {
        const starts: number[] = []
        let words = 0
        for (const { tensor } of plan.deltas) {
          starts.push(words)
          words += journalWords(tensor, placement.dtype, lanes)
        }
        change.deltas = { span: spans.push({ bytes: words * 4, group }) - 1, starts }
      }
      changes.set(`${plan.target} ${i}`, change)
    }
  }
  return { changes, spans }
}

/** Words that a delta may displace. With two elements a word, each lane of a block has a spare one, to start on a new word. */
function journalWords(
  tensor: WeightedTensor['tensor'],
  dtype: BufferPlacement['dtype'],
  lanes: number,
): number {
  const form = streamForm(tensor)
  const entries =
    form.kind === 'golomb' ? form.code.kept : form.kind === 'steps' ? form.kept : weightsOf(tensor.shape)
  const perWord = PER_WORD[dtype]
  return perWord === 1 ? entries : Math.ceil((entries + tilingOf(tensor.shape).blocks * lanes) / perWord)
}

/** The stream of a contribution where it lies now. @param journal - first word of its span */
export function streamOf(
  entries: readonly SetEntry[],
  { entry, index, tensor, weight }: WeightedTensor,
  journal?: number,
): StreamParams {
  return streamParams(tensor, entries[entry].expert.spanOf(index), weight, journal)
}

/** Whether two sets merge the same tensors with the same weights. */
export function isSameSet(a: readonly SetEntry[], b: readonly SetEntry[]): boolean {
  return (
    a.length === b.length &&
    a.every(
      ({ expert, weight, only }, i) =>
        expert === b[i].expert && weight === b[i].weight && isEqual(only, b[i].only),
    )
  )
}

function isEqual(a: ReadonlySet<number> | undefined, b: ReadonlySet<number> | undefined): boolean {
  return a === b || (a !== undefined && b !== undefined && a.size === b.size && [...a].every((i) => b.has(i)))
}
