/**
 * What an adapter holds whole: biases, and modules that were trained in place (`modules_to_save`). They are stored as
 * deltas of the base.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import type { ModuleLayout } from '../format/table.ts'
import type { AdapterContext, AdapterTensor } from './adapter_context.ts'
import type { Checkpoint } from './checkpoint.ts'
import { quantizationOf, quantizedCheckpoint } from './checkpoint_kinds.ts'
import { isFloat } from './dtypes.ts'
import { placeholder } from './placeholders.ts'
import { readFloats, type StoredTensor } from './safetensors.ts'
import type { TaskTensor } from './task_vector.ts'
import { isEmbedding, isOutputLayer, sameBytes, tiedEmbedding } from './ties.ts'

/** @returns undefined for a copy of another tensor */
export async function savedTensor(
  tensor: AdapterTensor,
  context: AdapterContext,
): Promise<TaskTensor | undefined> {
  const { stored, path } = tensor
  const { name, shape } = stored
  const { base, baseNames } = context
  if (name.includes('.original_module.')) {
    return leaveOut(name, "peft's own copy of what modules_to_save replaces, never used", context)
  }
  if (await isSecondCopy(tensor, context)) return undefined
  if (base === undefined || baseNames === undefined) {
    throw new TritswapError(
      'input',
      `Cannot compress ${context.name}: it holds ${name} whole (a bias, or a module in modules_to_save), which is stored as a difference from the base; give the base with --base, or leave the tensor out with --exclude`,
      { fields: { name: context.name, tensor: name } },
    )
  }
  const own = baseNames.find(path)
  // With an output layer among its targets peft also saves the frozen weight under the factors.
  if (name.endsWith('.base_layer.weight') && (await isIn(base, stored, own))) {
    return leaveOut(name, `a copy of what ${base.name} has`, context)
  }
  if (own === undefined && name.endsWith('.base_layer.weight')) throw otherBase(stored, path, base, own)
  const knownAs = own?.name ?? path
  const tied = await tiedEmbedding(knownAs, shape, base.tensors)
  const init = tied ?? own
  if (init === undefined || init.shape.join() !== shape.join() || !isFloat(init.dtype)) {
    throw otherBase(stored, path, base, init)
  }
  const delta = { name, shape, role: 'delta' as const, target: init.name, knownAs, theta: stored, init }
  if (tied === undefined) return { ...delta, layout: await embeddingLayout(tensor, init, context) }
  const embedding = await savedAs(tied, context)
  if (embedding !== undefined && (await sameBytes(embedding.stored, stored))) {
    return leaveOut(name, `tied to ${embedding.stored.name}, and counted once`, context)
  }
  if (isOutputLayer(knownAs)) return { ...delta, layout: 'linear' }
  throw new TritswapError(
    'unsupported',
    `Cannot compress ${name}: ${base.name} ties it to ${tied.name}, and embeddings that are one weight cannot change apart; merge the adapter into a base with untied embeddings, and export that model`,
    { fields: { tensor: name, tied: tied.name } },
  )
}

/**
 * The layout of an embedding's delta. `peft` trains modules_to_save as copies, so an output layer that the base ties to
 * the embedding keeps the base's weight, unless `ensure_weight_tying` is set or the file has it with the same values.
 */
async function embeddingLayout(
  tensor: AdapterTensor,
  init: StoredTensor,
  context: AdapterContext,
): Promise<ModuleLayout | undefined> {
  if (!isEmbedding(init.name)) return undefined
  const { settings, base, baseNames, tensors } = context
  for (const { path, part, stored } of tensors) {
    if (part !== 'whole' || !isOutputLayer(path) || stored.weights === 0) continue
    const knownAs = baseNames!.find(path)?.name ?? path
    if ((await tiedEmbedding(knownAs, stored.shape, base!.tensors)) !== init) continue
    return (await sameBytes(stored, tensor.stored)) ? undefined : 'embedding'
  }
  const module = tensor.path.replace(/\.weight$/, '')
  const isCopied = settings.modulesToSave.some((suffix) => module.endsWith(suffix))
  return isCopied && !(settings.kind === 'lora' && settings.tied) ? 'embedding' : undefined
}

/** The tensor of the file that holds one of the base's. */
async function savedAs(
  target: StoredTensor,
  { tensors, baseNames }: AdapterContext,
): Promise<AdapterTensor | undefined> {
  return tensors.find(({ part, path }) => part === 'whole' && baseNames!.find(path) === target)
}

/**
 * With bias "all" peft saves the bias of a saved module under both of its names.
 * @throws {TritswapError} `input` where the two differ
 */
async function isSecondCopy({ stored, path }: AdapterTensor, context: AdapterContext): Promise<boolean> {
  const { name } = stored
  if (!name.includes('.modules_to_save.')) return false
  const twin = context.tensors.find(
    (other) =>
      other.part === 'whole' && other.path === path && !other.stored.name.includes('.modules_to_save.'),
  )
  if (twin === undefined) return false
  if (!(await sameBytes(stored, twin.stored))) {
    throw new TritswapError(
      'input',
      `Cannot compress ${name}: the file holds ${twin.stored.name} with other values, and both mean the same weight`,
    )
  }
  leaveOut(name, `a second copy of ${twin.stored.name}`, context)
  return true
}

function leaveOut(name: string, why: string, { copies, notes }: AdapterContext): undefined {
  copies.push(name)
  notes.push(`Left out ${name}: ${why}`)
}

/** Whether the base has these very values: at `init`, or, where it ties them to another tensor, anywhere. */
async function isIn(base: Checkpoint, tensor: StoredTensor, init?: StoredTensor): Promise<boolean> {
  for (const other of init === undefined ? base.tensors.values() : [init]) {
    if (await sameValues(tensor, other)) return true
  }
  return false
}

const COMPARE_WEIGHTS = 2 ** 20

async function sameValues(a: StoredTensor, b: StoredTensor): Promise<boolean> {
  if (a.shape.join() !== b.shape.join() || !isFloat(a.dtype) || !isFloat(b.dtype)) return false
  for (let from = 0; from < a.weights; from += COMPARE_WEIGHTS) {
    const count = Math.min(COMPARE_WEIGHTS, a.weights - from)
    const [x, y] = await Promise.all([readFloats(a, from, count), readFloats(b, from, count)])
    if (!x.every((value, i) => value === y[i])) return false
  }
  return true
}

function otherBase(
  stored: StoredTensor,
  path: string,
  base: Checkpoint,
  init: StoredTensor | undefined,
): TritswapError {
  const scheme = quantizationOf(base)
  if (scheme !== undefined) return quantizedCheckpoint(path, base.name, scheme)
  if (init?.weights === 0) return placeholder(init)
  const found = init === undefined ? 'none' : `${init.dtype} [${init.shape}]`
  const isResized =
    init !== undefined && init.shape[1] === stored.shape[1] && /embed|wte|shared|head/.test(path)
  const why =
    init === undefined
      ? 'a module that was added in training has no place in the exported model'
      : isResized
        ? 'a resized vocabulary does not fit the exported model'
        : 'it may be of another base'
  return new TritswapError(
    'base',
    `Cannot compress ${stored.name}: expected ${path} of shape [${stored.shape}] in ${base.name}, found ${found} (${why}); give the base that the adapter was trained on, or leave the tensor out with --exclude`,
    { fields: { tensor: stored.name, target: path } },
  )
}
