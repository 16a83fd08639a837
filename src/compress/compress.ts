/**
 * Task vector in, `.trit` out: statistics, selection, scale and code of one tensor after the other.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { virtualTensorOf } from '../format/contributions.ts'
import { FLOAT_BYTES } from '../format/dtype.ts'
import { MAX_TENSOR_WEIGHTS, SKETCH_VALUES } from '../format/limits.ts'
import { sketchValuesFor } from '../format/sketch.ts'
import { type CompressionRecord, type TritMethod, targetsOf } from '../format/table.ts'
import { weightsOf } from '../format/tiling.ts'
import { TritWriter } from '../format/writer.ts'
import { compressExact } from './exact.ts'
import type { RunJob } from './jobs.ts'
import { isVector, momentsOf } from './moments.ts'
import { pipelined } from './pipeline.ts'
import { describeBase, describeSources, withSketch } from './provenance.ts'
import {
  type CompressContext,
  type CompressReport,
  changeWeights,
  countBytes,
  countWeights,
  type ExpertTexts,
  type TensorReport,
  textsOf,
} from './report.ts'
import { AddedProducts, checkScales, scaleSections } from './row_lengths.ts'
import {
  type DenseRule,
  isTernaryRule,
  mainRule,
  type RuleOptions,
  rulesFor,
  type TernaryRule,
} from './rules.ts'
import { flatSlices, SLICES_AHEAD } from './slices.ts'
import { sha256OfSource } from './source_hash.ts'
import type { TaskTensor, TaskVector } from './task_vector.ts'
import {
  type DecomposedTarget,
  decomposeTargets,
  type TermsTarget,
  takeTerms,
  termsTensor,
  termsWithin,
} from './terms.ts'
import { globalGroups, groupOf, type TernaryMember, ternarize } from './ternarize.ts'

/** A tensor that moved, with what the first pass found. */
type Moved = TernaryMember | (Omit<TernaryMember, 'rule'> & { rule: DenseRule })

/** Passes over the weights, for progress: statistics, two histograms, ties, entries. */
const PASSES = 5
/** Weights of tensors in work at once: enough to keep threads busy with small tensors, at little memory. */
const WEIGHTS_AHEAD = 2 ** 24

/** Terms that a task vector has beside its tensors: those to find, and those that are written as they are. */
export interface OwnTerms {
  targets: readonly TermsTarget[]
  found: readonly DecomposedTarget[]
}

/**
 * Compresses a task vector.
 * @throws {TritswapError} `input` for NaN and infinities (with tensor and index), for options that fit nothing, and
 * when nothing moved at all
 */
export async function compressTaskVector(
  task: TaskVector,
  options: RuleOptions & ExpertTexts,
  context: CompressContext,
  own: OwnTerms = { targets: [], found: [] },
): Promise<CompressReport> {
  if (options.lossless) return compressExact(task, options, context)
  const { signal } = context
  const rules = rulesFor(task.tensors, options, task.method, task.copies)
  const chosen = task.tensors.flatMap((tensor, i) => {
    const rule = rules[i]
    return rule === undefined ? [] : [{ tensor, rule }]
  })
  for (const { tensor } of chosen) check(tensor)
  checkScales(chosen.map(({ tensor }) => tensor))
  const scales = chosen.filter(({ tensor }) => tensor.rowLengths !== undefined).map(({ tensor }) => tensor)
  const { targets: taken, others } = takeTerms(chosen.filter(({ tensor }) => tensor.rowLengths === undefined))
  const targets = [...taken, ...own.targets]
  const run = countWeights(
    context,
    others.reduce((sum, { tensor }) => sum + tensor.theta.weights * PASSES, 0) +
      targets.reduce((sum, { change }) => sum + changeWeights(change), 0),
  )

  // The base is hashed while the passes run; both only read.
  const base = describeBase(task, run, signal)
  base.catch(() => {})
  const { moved, unmoved } = await findMoved(others, run, signal)
  const { found: decomposed, unmoved: unmovedTargets } = await decomposeTargets(targets, run, signal)
  const found = [...decomposed, ...own.found]
  if (moved.length + found.length + scales.length === 0) {
    throw new TritswapError(
      'input',
      'Cannot compress: no tensor differs from the base; check that the two inputs are the right ones',
    )
  }
  const notes = [...task.notes]
  const onlyVectors =
    task.method === 'full' && found.length === 0 && moved.every(({ tensor }) => isVector(tensor.shape))
  const written = onlyVectors && options.rule !== 'published' ? keptDense(moved, options) : moved
  if (written !== moved) {
    notes.push('Only vectors moved: they are kept as dense deltas (--rule published makes them ternary)')
  }

  const { spool, bytes } = countBytes(context.spool)
  const writer = new TritWriter(spool)
  const added = new AddedProducts(scales)
  const tensors = await writeTensors(writer, written, added, run, signal)
  const scalesOf = (kept: readonly DecomposedTarget[]) => {
    for (const { tensor, section } of kept.map(termsTensor)) added.take(tensor, section)
    return scaleSections(scales, added, options.denseDtype ?? 'f16')
  }
  const sources = await describeSources(task.sources, context.sha256 ?? sha256OfSource)
  const tableFor = async (kept: readonly DecomposedTarget[]) => {
    const changed = [...moved.map(({ tensor }) => tensor), ...kept, ...scales]
    const values = kept.length === 0 ? SKETCH_VALUES : sketchValuesFor(targetsOf(changed).length)
    return {
      kind: 'expert' as const,
      method: task.method,
      invocation: task.invocation,
      base: task.baseRecord?.(changed) ?? (await withSketch(await base, task.base, changed, signal, values)),
      compression: recordOf(options, written, task.method),
      sources,
      ...textsOf(options),
    }
  }
  const kept =
    options.bytes === undefined
      ? found
      : await termsWithin(found, options.bytes, async (some) =>
          writer.sizeWith([...some.map(termsTensor), ...(await scalesOf(some))], await tableFor(some)),
        )
  for (const target of kept) {
    const { tensor, section } = termsTensor(target)
    await writer.add(tensor, section)
    const weights = weightsOf(target.shape)
    tensors.push({ name: tensor.name, weights, kept: weights, terms: target.count })
  }
  for (const { tensor, section, values } of await scalesOf(kept)) {
    await writer.add(tensor, section)
    const sumSquares = values.reduce((sum, value) => sum + value * value, 0)
    tensors.push({ name: tensor.name, weights: values.length, kept: values.length, fit: { sumSquares } })
  }
  const head = await writer.finish(await tableFor(kept))
  return {
    head,
    bytes: head.length + bytes(),
    tensors,
    empty: tensors.filter(({ kept, scale }) => scale !== undefined && kept === 0).map(({ name }) => name),
    unmoved: [...unmoved, ...unmovedTargets],
    skipped: task.tensors.filter((_, i) => rules[i] === undefined).map(({ name }) => name),
    notes,
  }
}

function check({ name, theta, problem }: TaskTensor): void {
  if (problem !== undefined) throw problem
  if (theta.weights > MAX_TENSOR_WEIGHTS) {
    throw new TritswapError(
      'limit',
      `Cannot compress ${name}: its ${theta.weights} weights are over the limit of ${MAX_TENSOR_WEIGHTS}; leave it out with --exclude`,
      { fields: { tensor: name, weights: theta.weights } },
    )
  }
}

/** First pass: statistics of every tensor, and which of them moved. */
async function findMoved(
  chosen: readonly { tensor: TaskTensor; rule: TernaryRule | DenseRule }[],
  run: RunJob,
  signal?: AbortSignal,
) {
  const moved: Moved[] = []
  const unmoved: string[] = []
  const work = pipelined(
    chosen,
    ({ tensor }) => tensor.theta.weights,
    WEIGHTS_AHEAD,
    ({ tensor }) => momentsOf(tensor, run, signal),
  )
  for await (const [{ tensor, rule }, { moments, score }] of work) {
    // Zeros before a prompt are read like any other values.
    const isRead = !isTernaryRule(rule) && virtualTensorOf([tensor]) !== undefined
    if (moments.nonzero === 0 && !isRead) unmoved.push(tensor.name)
    else if (!isTernaryRule(rule)) moved.push({ tensor, rule, moments })
    else {
      const balanced = rule.score === 'balanced' && !isVector(tensor.shape)
      moved.push({ tensor, rule, moments, score: balanced ? score : undefined })
    }
  }
  return { moved, unmoved }
}

/**
 * A fine-tuning that moved nothing but vectors (BitFit) is a few kilobytes: ternary would save less than it would
 * lose.
 */
function keptDense(moved: readonly Moved[], { denseDtype = 'f16' }: RuleOptions): Moved[] {
  return moved.map((tensor) => ({ ...tensor, rule: { codec: 'dense', dtype: denseDtype } }))
}

async function writeTensors(
  writer: TritWriter,
  moved: readonly Moved[],
  added: AddedProducts,
  run: RunJob,
  signal?: AbortSignal,
): Promise<TensorReport[]> {
  const groups = await globalGroups(moved.filter(isTernary), run, signal)
  const reports: TensorReport[] = []
  const work = pipelined(
    moved,
    ({ tensor, rule }) => (isTernaryRule(rule) ? tensor.theta.weights : 0),
    WEIGHTS_AHEAD,
    async (item) =>
      isTernary(item)
        ? ternarize(item, groups.get(item) ?? (await groupOf([item], run, signal)), run, signal)
        : undefined,
  )
  for await (const [{ tensor, rule, moments }, ternary] of work) {
    const { name, shape, role, target, scaling, layout, feedforward, theta } = tensor
    const common = { name, shape, role, target, scaling, layout, feedforward }
    const { sumSquares } = moments
    if (ternary !== undefined) {
      const { words, ...code } = ternary.section
      const { scale, unit, sumKept } = ternary
      const written = { ...common, codec: 'ternary' as const, ...code, scale }
      await writer.add(written, words)
      if (added.wants(tensor))
        added.take(written, new Uint8Array(words.buffer, words.byteOffset, words.byteLength))
      reports.push({
        name,
        weights: theta.weights,
        kept: code.kept,
        scale,
        fit: { sumSquares, ternary: { unit, sumKept } },
      })
    } else if (!isTernaryRule(rule)) {
      writer.begin({ ...common, ...rule }, theta.weights * FLOAT_BYTES[rule.dtype])
      const pieces = pipelined(
        flatSlices(theta.weights),
        () => 1,
        SLICES_AHEAD,
        (slice) => run('dense', { tensor, slice, dtype: rule.dtype }, signal),
      )
      const section = added.wants(tensor)
        ? new Uint8Array(theta.weights * FLOAT_BYTES[rule.dtype])
        : undefined
      let at = 0
      for await (const [, piece] of pieces) {
        await writer.append(piece)
        section?.set(piece, at)
        at += piece.length
      }
      await writer.end()
      if (section !== undefined) added.take({ ...common, ...rule }, section)
      reports.push({ name, weights: theta.weights, kept: theta.weights, fit: { sumSquares } })
    }
  }
  return reports
}

function isTernary(moved: Moved): moved is TernaryMember {
  return isTernaryRule(moved.rule)
}

/** The main rule; an expert with nothing ternary has none. */
function recordOf(options: RuleOptions, moved: readonly Moved[], method: TritMethod): CompressionRecord {
  if (!moved.some(isTernary)) return {}
  const { density, alpha, scale, threshold, score } = mainRule(options, method)
  return { density, alpha, scale, threshold, score }
}
