/**
 * A fine-tuning that changes few weights, without loss: each changed weight as its steps from the base's own to the new one.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { encodeExact } from '../format/codecs/exact_code.ts'
import { factorOf, isAddition } from '../format/contributions.ts'
import type { StepUnit } from '../format/steps.ts'
import { TritWriter } from '../format/writer.ts'
import type { RunJob } from './jobs.ts'
import { pipelined } from './pipeline.ts'
import { describeBase, describeSources, withSketch } from './provenance.ts'
import {
  type CompressContext,
  type CompressReport,
  countBytes,
  countWeights,
  type ExpertTexts,
  type TensorReport,
  textsOf,
} from './report.ts'
import { checkLossless, type RuleOptions, rulesFor } from './rules.ts'
import type { StoredTensor } from './safetensors.ts'
import { SLICES_AHEAD, slicesOf } from './slices.ts'
import { sha256OfSource } from './source_hash.ts'
import type { TaskTensor, TaskVector } from './task_vector.ts'

/** Weights of tensors in work at once. */
const WEIGHTS_AHEAD = 2 ** 24

/** A stored type, and the unit that has all of its values. */
const UNIT_OF: Readonly<Record<string, StepUnit>> = { F32: 'f32', F16: 'f16', BF16: 'bf16' }

/** A tensor with the base's weights that its steps start from. */
interface Chosen {
  tensor: TaskTensor
  base: StoredTensor
  unit: StepUnit
}

/**
 * Compresses a task vector so that the base with it is the fine-tuned checkpoint, bit for bit in its own dtype. An adapter's deltas are
 * added to the base as peft merges them: in f32, and rounded to the base's dtype.
 * @throws {TritswapError} `input` without a base, for NaN and infinities, and when nothing moved; `unsupported` for LoRA and (IA)³,
 * which change every weight, and for modules that share a weight and move apart
 */
export async function compressExact(
  task: TaskVector,
  options: RuleOptions & ExpertTexts,
  context: CompressContext,
): Promise<CompressReport> {
  checkLossless(options)
  const { signal } = context
  const { include, exclude } = options
  const rules = rulesFor(task.tensors, { include, exclude }, task.method, task.copies)
  const chosen = task.tensors.filter((_, i) => rules[i] !== undefined).map((tensor) => chosenOf(tensor, task))
  const run = countWeights(
    context,
    chosen.reduce((sum, { tensor }) => sum + tensor.theta.weights, 0),
  )
  const base = describeBase(task, run, signal)
  base.catch(() => {})
  const { spool, bytes } = countBytes(context.spool)
  const writer = new TritWriter(spool)
  const tensors: TensorReport[] = []
  const changed: TaskTensor[] = []
  const unmoved: string[] = []
  let rounded = 0
  const work = pipelined(
    chosen,
    ({ tensor }) => tensor.theta.weights,
    WEIGHTS_AHEAD,
    (own) => stepsOf(own, run, signal),
  )
  for await (const [{ tensor, unit }, { roundedInF16, ...steps }] of work) {
    const { name, shape, target, theta } = tensor
    if (steps.places.length === 0) {
      unmoved.push(name)
      continue
    }
    const { words, ...code } = encodeExact(unit, steps)
    await writer.add({ name, shape, role: 'delta', target, codec: 'exact', ...code, roundedInF16 }, words)
    tensors.push({ name, weights: theta.weights, kept: code.kept })
    changed.push(tensor)
    rounded += roundedInF16
  }
  if (changed.length === 0) {
    throw new TritswapError(
      'input',
      'Cannot compress: no weight differs from the base; check that the two inputs are the right ones',
    )
  }
  const head = await writer.finish({
    kind: 'expert',
    method: 'full',
    base: task.baseRecord?.(changed) ?? (await withSketch(await base, task.base, changed, signal)),
    compression: {},
    sources: await describeSources(task.sources, context.sha256 ?? sha256OfSource),
    ...textsOf(options),
  })
  return {
    head,
    bytes: head.length + bytes(),
    tensors,
    empty: [],
    unmoved,
    skipped: task.tensors.filter((_, i) => rules[i] === undefined).map(({ name }) => name),
    notes: [...task.notes, exactness([...new Set(chosen.map(({ unit }) => unit))], rounded)],
  }
}

function exactness(units: readonly StepUnit[], rounded: number): string {
  const there = `Lossless: with it the base is the fine-tuned checkpoint bit for bit (${units.join(', ')})`
  if (rounded === 0) return `${there}, over a base in f16 too`
  const weights = rounded === 1 ? '1 changed weight is' : `${rounded} changed weights are`
  return `${there}; over a base in f16 ${weights} a rounding off`
}

/** @throws {TritswapError} why a tensor cannot be lossless */
function chosenOf(tensor: TaskTensor, task: TaskVector): Chosen {
  const { name, target, theta, init, layout, problem } = tensor
  if (problem !== undefined) throw problem
  const refused = (why: string) =>
    new TritswapError('unsupported', `Cannot compress ${name} without loss: ${why}`, {
      fields: { tensor: name, target },
    })
  if (factorOf(tensor) !== undefined || !isAddition(tensor) || tensor.rowLengths !== undefined)
    throw refused('it changes every weight of its module; leave out --lossless')
  if (layout !== undefined)
    throw refused(
      `${target} is shared between modules that move apart; leave it out with --exclude, or leave out --lossless`,
    )
  const base = typeof init === 'number' ? task.base?.get(target) : init
  if (base === undefined)
    throw new TritswapError(
      'input',
      `Cannot compress ${name} without loss: expected the base's ${target}, found none; give the base with --base`,
      { fields: { tensor: name, target } },
    )
  // What is added to a base is rounded to its dtype.
  const dtypes = typeof init === 'number' ? [base.dtype] : [theta.dtype, base.dtype]
  const [unit, other = unit] = dtypes.map((dtype) => UNIT_OF[dtype])
  if (unit === undefined || other === undefined)
    throw refused(`expected weights in F32, F16 or BF16, found ${dtypes.find((dtype) => !UNIT_OF[dtype])}`)
  // Binary32 has the values of both.
  return { tensor, base, unit: unit === other ? unit : 'f32' }
}

/** The steps of one tensor: slices hold whole blocks and come in block order. */
async function stepsOf({ tensor, base, unit }: Chosen, run: RunJob, signal?: AbortSignal) {
  const { name, shape, theta, init } = tensor
  const isAdded = typeof init === 'number'
  const pieces: { places: Uint32Array; steps: Int32Array; before: number }[] = []
  let [before, kept, roundedInF16] = [0, 0, 0]
  const work = pipelined(
    slicesOf(shape),
    () => 1,
    SLICES_AHEAD,
    (slice) => run('steps', { tensor: { name, shape, theta, init: base }, slice, unit, isAdded }, signal),
  )
  for await (const [slice, piece] of work) {
    pieces.push({ ...piece, before })
    before += slice.rows * slice.cols
    kept += piece.places.length
    roundedInF16 += piece.roundedInF16
  }
  const places = new Uint32Array(kept)
  const steps = new Int32Array(kept)
  let at = 0
  for (const piece of pieces) {
    for (const [i, place] of piece.places.entries()) places[at + i] = piece.before + place
    steps.set(piece.steps, at)
    at += piece.places.length
  }
  return { places, steps, roundedInF16 }
}
