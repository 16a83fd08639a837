/**
 * Task vector in, `.trit` out: statistics, selection, scale, codes, one tensor after the other.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { encodeBlocks } from '../format/codecs/ternary.ts'
import { MAX_TENSOR_WEIGHTS } from '../format/limits.ts'
import type { CompressionRecord } from '../format/table.ts'
import { tilingOf } from '../format/tiling.ts'
import { type PayloadSpool, TritWriter } from '../format/writer.ts'
import type { ByteSource } from '../source/source.ts'
import { type Entries, gatherEntries } from './entries.ts'
import { inOrder } from './in_order.ts'
import { type JobInputs, type JobKind, type RunJob, runJob } from './jobs.ts'
import { describeBase, describeSources, withSketch } from './provenance.ts'
import { mainRule, type RuleOptions, rulesFor, type TensorRule, type TernaryRule } from './rules.ts'
import { type Candidate, type Selection, selectLargest } from './select.ts'
import { flatSlices, slicesOf } from './slices.ts'
import { sha256OfSource } from './source_hash.ts'
import type { TaskTensor, TaskVector } from './task_vector.ts'

/** Texts that travel with an expert. */
export interface ExpertTexts {
  label?: string
  description?: string
  /** A prompt that shows what the expert does. */
  prompt?: string
  licence?: string
  createdWith?: string
}

export interface CompressContext {
  /** Where the payload goes: memory, or a file for what does not fit. */
  spool: PayloadSpool
  /** Runs passes elsewhere; the default is this thread. The file does not depend on it. */
  run?: RunJob
  /** SHA-256 of a whole source file, lower-case hex, or undefined where that is too much to ask. */
  sha256?: (source: ByteSource) => Promise<string | undefined>
  signal?: AbortSignal
  /** Weights read so far, and to be read in all passes together; `total` shrinks when tensors turn out unmoved. */
  onProgress?: (progress: { done: number; total: number }) => void
}

/** What became of one tensor. */
export interface TensorReport {
  name: string
  weights: number
  kept: number
  /** Only of ternary tensors. */
  scale?: number
  /** How it fits the task vector, where there is one. */
  fit?: TensorFit
}

export interface TensorFit {
  /** ‖tau‖². */
  sumSquares: number
  /** Only of ternary tensors: the scale at alpha = 1 before it is rounded to f32, and Σ |tau| over the kept. */
  ternary?: { unit: number; sumKept: number }
}

export interface CompressReport {
  /** The head; the file is the head, then what went to the spool. */
  head: Uint8Array<ArrayBuffer>
  bytes: number
  tensors: TensorReport[]
  /** Ternary tensors of which nothing was kept. */
  empty: string[]
  /** Tensors equal to theta_init, left out. */
  unmoved: string[]
  /** Tensors left out by --include and --exclude. */
  skipped: string[]
  notes: string[]
}

/** Statistics of a tensor, or of several. */
interface Moments {
  count: number
  nonzero: number
  mean: number
  /** Σ (tau − mean)². */
  m2: number
  sumSquares: number
}

/** A tensor with what the first pass found. */
interface Moved extends Candidate {
  rule: TensorRule
  moments: Moments
}

/** A tensor that becomes ternary. */
interface Member extends Moved {
  rule: TernaryRule
}

/** What the tensors that share a threshold have in common. */
interface Plan {
  selections: Map<Member, Selection>
  moments: Moments
  /** Of all kept entries; undefined where that is known only when the one tensor is encoded. */
  kept?: KeptSum
}

interface KeptSum {
  kept: number
  /** Σ |tau|. */
  sum: number
}

/** Passes over the weights, for progress: statistics, two histograms, ties, entries. */
const PASSES = 5
/** Weights of tensors in work at once: enough to keep threads busy with small tensors, little memory. */
const WEIGHTS_AHEAD = 2 ** 24
/** Slices of one tensor asked for ahead of their turn. */
const SLICES_AHEAD = 8

/**
 * Compresses a task vector.
 * @throws {TritswapError} `input` for NaN and infinities (with tensor and index), for options that fit nothing, and
 * when nothing moved at all
 */
export async function compressTaskVector(
  task: TaskVector,
  options: RuleOptions & ExpertTexts,
  context: CompressContext,
): Promise<CompressReport> {
  const { signal } = context
  const rules = rulesFor(task.tensors, options)
  const chosen = task.tensors.flatMap((tensor, i) => {
    const rule = rules[i]
    return rule === undefined ? [] : [{ tensor, rule }]
  })
  for (const { tensor } of chosen) check(tensor)
  const run = counted(context, chosen.reduce((sum, { tensor }) => sum + tensor.theta.weights, 0) * PASSES)

  // The base is hashed while the passes run; both only read.
  const base = describeBase(task, run, signal)
  base.catch(() => {})
  const { moved, unmoved } = await findMoved(chosen, run, signal)
  if (moved.length === 0) {
    throw new TritswapError(
      'input',
      'Cannot compress: no tensor differs from the base; check that the two inputs are the right ones',
    )
  }
  const notes = [...task.notes]
  if (
    options.rule !== 'published' &&
    task.method === 'full' &&
    moved.every(({ tensor }) => isVector(tensor.shape))
  ) {
    keepDense(moved, options)
    notes.push('Only vectors moved: they are kept as dense deltas (--rule published makes them ternary)')
  }

  const { spool, bytes } = countBytes(context.spool)
  const writer = new TritWriter(spool)
  const tensors = await writeTensors(writer, moved, run, signal)
  const changed = moved.map(({ tensor }) => tensor)
  const head = await writer.finish({
    kind: 'expert',
    method: task.method,
    base: task.baseRecord?.(changed) ?? (await withSketch(await base, task.base, changed, signal)),
    compression: recordOf(options, moved),
    sources: await describeSources(task.sources, context.sha256 ?? sha256OfSource),
    label: options.label,
    description: options.description,
    prompt: options.prompt,
    licence: options.licence,
    createdWith: options.createdWith,
  })
  return {
    head,
    bytes: head.length + bytes(),
    tensors,
    empty: tensors.filter(({ kept, scale }) => scale !== undefined && kept === 0).map(({ name }) => name),
    unmoved,
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

/** The spool, and how many bytes went to it. */
export function countBytes(spool: PayloadSpool): { spool: PayloadSpool; bytes: () => number } {
  let total = 0
  const append = (bytes: Uint8Array<ArrayBuffer>) => {
    total += bytes.length
    return spool.append(bytes)
  }
  return { spool: { append }, bytes: () => total }
}

/** Counts the weights that jobs go over. */
function counted({ run = runJob, onProgress }: CompressContext, total: number): RunJob {
  let done = 0
  return async <K extends JobKind>(kind: K, input: JobInputs[K], signal?: AbortSignal) => {
    signal?.throwIfAborted()
    const result = await run(kind, input, signal)
    if ('slice' in input) {
      done += input.slice.rows * input.slice.cols
      onProgress?.({ done: Math.min(done, total), total })
    }
    return result
  }
}

/** First pass: statistics of every tensor, and which of them moved. */
async function findMoved(
  chosen: readonly { tensor: TaskTensor; rule: TensorRule }[],
  run: RunJob,
  signal?: AbortSignal,
) {
  const moved: Moved[] = []
  const unmoved: string[] = []
  const work = inOrder(
    chosen,
    ({ tensor }) => tensor.theta.weights,
    WEIGHTS_AHEAD,
    ({ tensor }) => momentsOf(tensor, run, signal),
  )
  for await (const [{ tensor, rule }, { moments, score }] of work) {
    if (moments.nonzero === 0) {
      unmoved.push(tensor.name)
    } else {
      const balanced = rule.codec === 'ternary' && rule.score === 'balanced' && !isVector(tensor.shape)
      moved.push({ tensor, rule, moments, score: balanced ? score : undefined })
    }
  }
  return { moved, unmoved }
}

/** One long side: rows and columns of a vector say nothing that the entry itself does not. */
function isVector(shape: readonly number[]): boolean {
  const { rows, cols } = tilingOf(shape)
  return rows === 1 || cols === 1
}

async function momentsOf(tensor: TaskTensor, run: RunJob, signal?: AbortSignal) {
  const { rows, cols } = tilingOf(tensor.shape)
  const rowSquares = new Float64Array(rows)
  const colSquares = new Float64Array(cols)
  let moments: Moments = { count: 0, nonzero: 0, mean: 0, m2: 0, sumSquares: 0 }
  const work = inOrder(
    slicesOf(tensor.shape),
    () => 1,
    SLICES_AHEAD,
    (slice) => run('stats', { tensor, slice }, signal),
  )
  for await (const [slice, part] of work) {
    moments = together(moments, { ...part, count: slice.rows * slice.cols })
    for (let r = 0; r < slice.rows; r++) rowSquares[slice.row + r] += part.rows[r]
    for (let c = 0; c < slice.cols; c++) colSquares[slice.col + c] += part.cols[c]
  }
  return { moments, score: { rows: factors(rowSquares, cols), cols: factors(colSquares, rows) } }
}

/** Moments of both (Chan, Golub & LeVeque 1979): exact where a difference of sums would cancel. */
function together(a: Moments, b: Moments): Moments {
  const count = a.count + b.count
  const delta = b.mean - a.mean
  return {
    count,
    nonzero: a.nonzero + b.nonzero,
    mean: a.mean + (delta * b.count) / count,
    m2: a.m2 + b.m2 + (delta * delta * a.count * b.count) / count,
    sumSquares: a.sumSquares + b.sumSquares,
  }
}

/**
 * 1 / √rms of rows or columns, from their sums of squares; 0 where nothing moved. Square roots, which every engine
 * rounds the same way: `**` is not that exact.
 */
function factors(sums: Float64Array, count: number): Float32Array {
  return Float32Array.from(sums, (sum) => (sum === 0 ? 0 : 1 / Math.sqrt(Math.sqrt(sum / count))))
}

/**
 * A fine-tuning that moved nothing but vectors (BitFit) is a few kilobytes: what ternary would save is less than
 * what it would lose.
 */
function keepDense(moved: Moved[], { denseDtype = 'f16' }: RuleOptions): void {
  for (const tensor of moved) tensor.rule = { codec: 'dense', dtype: denseDtype }
}

async function writeTensors(
  writer: TritWriter,
  moved: readonly Moved[],
  run: RunJob,
  signal?: AbortSignal,
): Promise<TensorReport[]> {
  const shared = await planTogether(moved, run, signal)
  const reports: TensorReport[] = []
  const work = inOrder(
    moved,
    ({ tensor, rule }) => (rule.codec === 'dense' ? 0 : tensor.theta.weights),
    WEIGHTS_AHEAD,
    async (item) =>
      isMember(item)
        ? encode(item, shared.get(item) ?? (await planFor([item], run, signal)), run, signal)
        : undefined,
  )
  for await (const [{ tensor, rule, moments }, encoded] of work) {
    const { name, shape, role, target, scaling, layout, feedforward, theta } = tensor
    const common = { name, shape, role, target, scaling, layout, feedforward }
    const { sumSquares } = moments
    if (encoded !== undefined) {
      const { words, ...code } = encoded.section
      const { scale, unit, sumKept } = encoded
      await writer.add({ ...common, codec: 'ternary', ...code, scale }, words)
      reports.push({
        name,
        weights: theta.weights,
        kept: code.kept,
        scale,
        fit: { sumSquares, ternary: { unit, sumKept } },
      })
    } else if (rule.codec === 'dense') {
      writer.begin({ ...common, ...rule }, theta.weights * (rule.dtype === 'f16' ? 2 : 4))
      const pieces = inOrder(
        flatSlices(theta.weights),
        () => 1,
        SLICES_AHEAD,
        (slice) => run('dense', { tensor, slice, dtype: rule.dtype }, signal),
      )
      for await (const [, piece] of pieces) await writer.append(piece)
      await writer.end()
      reports.push({ name, weights: theta.weights, kept: theta.weights, fit: { sumSquares } })
    }
  }
  return reports
}

function isMember(moved: Moved): moved is Member {
  return moved.rule.codec === 'ternary'
}

/** Plans for tensors under a global threshold: those of one density and score compete with each other. */
async function planTogether(
  moved: readonly Moved[],
  run: RunJob,
  signal?: AbortSignal,
): Promise<Map<Member, Plan>> {
  const groups = new Map<string, Member[]>()
  for (const member of moved.filter(isMember)) {
    const { threshold, density, score } = member.rule
    if (threshold !== 'global') continue
    const key = `${density} ${score}`
    groups.set(key, [...(groups.get(key) ?? []), member])
  }
  const plans = new Map<Member, Plan>()
  for (const members of groups.values()) {
    const plan = await planFor(members, run, signal)
    for (const member of members) plans.set(member, plan)
    if (members.every(({ rule }) => rule.scale === 'std')) continue
    // Their common scale has to be known before the first of them is written, hence one pass more.
    plan.kept = { kept: 0, sum: 0 }
    for (const member of members) {
      const { codes, sum } = await entriesOf(member, plan, run, signal)
      plan.kept = { kept: plan.kept.kept + codes.length, sum: plan.kept.sum + sum }
    }
  }
  return plans
}

async function planFor(members: readonly Member[], run: RunJob, signal?: AbortSignal): Promise<Plan> {
  const moments = members.map((member) => member.moments).reduce(together)
  const keep = Math.floor(members[0].rule.density * moments.count + 0.5)
  const selections = await selectLargest(members, keep, run, signal)
  return { selections: new Map(members.map((member, i) => [member, selections[i]])), moments }
}

async function encode(member: Member, plan: Plan, run: RunJob, signal?: AbortSignal) {
  const entries = await entriesOf(member, plan, run, signal)
  const kept = plan.kept ?? { kept: entries.codes.length, sum: entries.sum }
  const unit = unitOf(member.rule, plan.moments, kept)
  const scale = roundScale(member.rule.alpha * unit, member.tensor.name)
  return { section: encodeBlocks(entries), unit, scale, sumKept: entries.sum }
}

function entriesOf(
  member: Member,
  { selections }: Plan,
  run: RunJob,
  signal?: AbortSignal,
): Promise<Entries> {
  return gatherEntries(member.tensor, { ...selections.get(member)!, score: member.score }, run, signal)
}

/** What every kept entry is worth before alpha (`Scale` in rules.ts). */
function unitOf({ scale }: TernaryRule, { count, m2, sumSquares }: Moments, { kept, sum }: KeptSum): number {
  // One entry has no deviation: its own size takes the place.
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
    {
      fields: { tensor: name, scale: exact },
    },
  )
}

/** The main rule; an expert with nothing ternary has none. */
function recordOf(options: RuleOptions, moved: readonly Moved[]): CompressionRecord {
  if (!moved.some(isMember)) return {}
  const { density, alpha, scale, threshold, score } = mainRule(options)
  return { density, alpha, scale, threshold, score }
}
