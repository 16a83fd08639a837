/**
 * The factors of LoRA: W + scaling · B · A, module by module.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import type { ModuleLayout } from '../format/table.ts'
import type { AdapterContext, AdapterTensor } from './adapter_context.ts'
import { type AdapterPart, otherFactor } from './adapter_names.ts'
import { quantizationOf, quantizedCheckpoint } from './checkpoint_kinds.ts'
import { type DoraModule, doraScales, scaleTensors } from './dora.ts'
import { biasTensor } from './formed_changes.ts'
import { valuesOf } from './kinds/kind.ts'
import { baseModule, keepsInputsFirst } from './modules.ts'
import { noTarget } from './no_target.ts'
import type { LoraSettings } from './peft_config.ts'
import { refused } from './peft_methods.ts'
import { placeholder } from './placeholders.ts'
import { reducedPair, type StoredPair } from './reduced_rank.ts'
import type { StoredTensor } from './safetensors.ts'
import { factorsOf, pairWithoutStart, withScales } from './started_pair.ts'
import type { TaskTensor } from './task_vector.ts'
import { isOutputLayer, tiedEmbedding } from './ties.ts'

type LoraContext = AdapterContext<LoraSettings>

interface Factors {
  /** [r, in, …] */
  a: StoredTensor
  /** [out, r, …] */
  b: StoredTensor
  isEmbedding: boolean
}

/** @throws {TritswapError} for a factor that is alone, of another rank, or that fits nothing in the base */
export async function loraTensor(tensor: AdapterTensor, context: LoraContext): Promise<TaskTensor> {
  const { stored, part, path } = tensor
  const { settings } = context
  const isA = part === 'loraA' || part === 'embeddingA'
  const other = context.byName.get(otherFactor(stored.name))
  if (other === undefined) {
    throw new TritswapError(
      'input',
      `Cannot compress ${stored.name}: expected its other factor ${otherFactor(stored.name)} in the file`,
      { fields: { tensor: stored.name, expected: otherFactor(stored.name) } },
    )
  }
  if (other.stored.weights === 0) throw placeholder(other.stored)
  const [a, b] = isA ? [stored, other.stored] : [other.stored, stored]
  const factors = { a, b, isEmbedding: part === 'embeddingA' || part === 'embeddingB' }
  checkFactors(factors, path, context)
  const { target, layout } = await moduleOf(factors, path, context)
  const rank = a.shape[0]
  const alpha = settings.alphaPattern.valueOf(path) ?? settings.alpha
  const scaling = alpha / (settings.rslora ? Math.sqrt(rank) : rank)
  const started = await startedPair({ a, b }, { path, scaling }, context)
  const pair = await reducedPair(await lengthenedPair(started, { path, scaling }, context))
  const theta = isA ? pair.a : pair.b
  return {
    name: stored.name,
    shape: theta.shape,
    role: isA ? 'loraA' : 'loraB',
    target,
    scaling: isA ? undefined : scaling,
    layout,
    theta,
    init: 0,
    isLengthened: context.settings.dora || undefined,
  }
}

/** A module's place, and the scaling of its pair. */
interface Scaled {
  path: string
  scaling: number
}

/** The pair with what peft took out of the base when training began taken out of it again. */
async function startedPair(
  pair: StoredPair,
  { path, scaling }: Scaled,
  context: LoraContext,
): Promise<StoredPair> {
  const { startedFrom } = context.settings
  if (startedFrom === undefined) return pair
  const own = await baseModule(path, context)
  if (own === undefined) throw baseNeeded(context.name, `its factors were begun by ${startedFrom}`)
  return pairWithoutStart(pair, { method: startedFrom, scaling, own, path })
}

/** Of DoRA, g ⊙ B in place of B. */
async function lengthenedPair(pair: StoredPair, scaled: Scaled, context: LoraContext): Promise<StoredPair> {
  if (!context.settings.dora) return pair
  return withScales(pair, doraScales(await doraModule(pair, scaled, context)))
}

/** The tensors of a module's magnitude. @throws {TritswapError} as {@link loraTensor} */
export async function magnitudeTensors(tensor: AdapterTensor, context: LoraContext): Promise<TaskTensor[]> {
  const { path } = tensor
  const { tensors, settings } = context
  const factor = (part: AdapterPart) =>
    tensors.find((other) => other.path === path && other.part === part)?.stored
  const [a, b] = [factor('loraA') ?? factor('embeddingA'), factor('loraB') ?? factor('embeddingB')]
  if (a === undefined || b === undefined) {
    throw new TritswapError(
      'input',
      `Cannot compress ${tensor.stored.name}: expected the LoRA factors of ${path} in the file`,
      { fields: { tensor: tensor.stored.name } },
    )
  }
  const alpha = settings.alphaPattern.valueOf(path) ?? settings.alpha
  const scaling = alpha / (settings.rslora ? Math.sqrt(a.shape[0]) : a.shape[0])
  const pair = await startedPair({ a, b }, { path, scaling }, context)
  return scaleTensors(await doraModule(pair, { path, scaling }, context))
}

/** The bias of a LoRA's B, times its scaling, for the module's own. */
export async function loraBiasTensor(
  { stored, path }: AdapterTensor,
  context: LoraContext,
): Promise<TaskTensor> {
  const { settings } = context
  const rank = settings.rankPattern.valueOf(path) ?? settings.rank
  const alpha = settings.alphaPattern.valueOf(path) ?? settings.alpha
  const scaling = alpha / (settings.rslora ? Math.sqrt(rank) : rank)
  const values = async () => {
    const own = await valuesOf(stored)
    return { ...own, values: own.values.map((value) => scaling * value) }
  }
  return biasTensor(path, await baseModule(path, context), values, stored, context)
}

async function doraModule(
  pair: StoredPair,
  { path, scaling }: Scaled,
  context: LoraContext,
): Promise<DoraModule> {
  const magnitude = context.tensors.find((other) => other.path === path && other.part === 'magnitude')?.stored
  if (magnitude === undefined) {
    throw new TritswapError(
      'input',
      `Cannot compress the LoRA of ${path}: expected its lora_magnitude_vector in the file, as use_dora is true`,
      { fields: { module: path } },
    )
  }
  const own = await baseModule(path, context)
  if (own === undefined)
    throw baseNeeded(context.name, 'DoRA brings the rows of its weights to trained lengths')
  const added = async () => {
    const { left, right } = await factorsOf(pair)
    return { left: { ...left, values: left.values.map((value) => scaling * value) }, right }
  }
  const isLookup = context.tensors.some((other) => other.path === path && other.part === 'embeddingA')
  return { path, own: isLookup ? { ...own, layout: 'embedding' } : own, magnitude, added }
}

function baseNeeded(name: string, why: string): TritswapError {
  return new TritswapError('input', `Cannot compress ${name}: ${why}; give the base with --base`, {
    fields: { name },
  })
}

/** A is [r, in, …], B is [out, r, …], r what the configuration says for this module. */
function checkFactors({ a, b }: Factors, path: string, { settings }: LoraContext): void {
  const rank = settings.rankPattern.valueOf(path) ?? settings.rank
  const fits = a.shape.length === b.shape.length && a.shape[0] === rank && b.shape[1] === rank
  const flat = a.shape.length === 2
  const pointwise = a.shape.length > 2 && b.shape.slice(2).every((size) => size === 1)
  if (fits && (flat || pointwise)) return
  if (a.shape.length > 2 && a.shape[0] === rank) {
    throw new TritswapError(
      'unsupported',
      `Cannot compress ${path}: LoRA on a grouped convolution is not supported (its B has shape [${b.shape}] at rank ${rank}): its A reads all channels, where a weight reads those of its group; train the module in full (modules_to_save), or leave it out with --exclude`,
      { fields: { name: path, a: a.shape, b: b.shape } },
    )
  }
  throw new TritswapError(
    'input',
    `Cannot compress the LoRA of ${path}: expected factors of rank ${rank} as adapter_config.json says, found A [${a.shape}] and B [${b.shape}]`,
    { fields: { module: path, rank, a: a.shape, b: b.shape } },
  )
}

/** The base tensor that a pair changes, and how its module keeps it. */
async function moduleOf(
  { a, b, isEmbedding }: Factors,
  path: string,
  { settings, base, baseNames, notes }: LoraContext,
): Promise<{ target: string; layout: ModuleLayout }> {
  const name = `${path}.weight`
  const weight = baseNames?.find(name)
  // peft uses fan_in_fan_out only where the module is a Conv1D; which are, the base's shapes tell unless square.
  const transposed = keepsInputsFirst(path, settings.fanInFanOut)
  const isOblong = weight?.shape.length === 2 && weight.shape[0] !== weight.shape[1]
  const isConv1d = isOblong ? weight.shape[0] === a.shape[1] && weight.shape[1] === b.shape[0] : transposed
  const layout = isEmbedding ? 'embedding' : a.shape.length > 2 ? 'conv2d' : isConv1d ? 'conv1d' : 'linear'
  // [out, in, …] of the module; an embedding is looked up by rows: A is [r, vocabulary], B is [dim, r].
  const shape = isConv1d || isEmbedding ? [a.shape[1], b.shape[0]] : [b.shape[0], ...a.shape.slice(1)]
  if (base === undefined || weight?.shape.join() === shape.join())
    return { target: weight?.name ?? name, layout }
  if (weight === undefined && (await tiedEmbedding(name, shape, base.tensors)) !== undefined) {
    const note = `${name} is not in ${base.name}, which ties it to its embedding: no sketch is stored`
    if (!notes.includes(note)) notes.push(note)
    return { target: name, layout }
  }
  const scheme = quantizationOf(base)
  if (scheme !== undefined) throw quantizedCheckpoint(name, base.name, scheme)
  if (weight?.weights === 0) throw placeholder(weight)
  throw noTarget(path, shape, base.name, weight)
}

/**
 * With `ensure_weight_tying` an output layer that is tied to an embedding with factors has the same factors.
 * @throws {TritswapError} `unsupported` where a file leaves them out
 */
export async function refuseHalfTied({ settings, tensors, base, name }: AdapterContext): Promise<void> {
  const embedding = tensors.find(({ part }) => part === 'embeddingA')
  if (settings.kind !== 'lora' || !settings.tied || embedding === undefined) return
  if (tensors.some(({ part, path }) => part === 'loraB' && isOutputLayer(`${path}.weight`))) return
  for (const output of base?.tensors.values() ?? []) {
    if (!isOutputLayer(output.name)) continue
    // A base with an output layer of its own ties nothing.
    if ((await tiedEmbedding(output.name, output.shape, base!.tensors)) === undefined) return
  }
  throw refused(
    name,
    'LoRA on tied embeddings without the factors of the output layer',
    `ensure_weight_tying is true, and only ${embedding.stored.name} is in the file`,
  )
}
