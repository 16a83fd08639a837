import { TritswapError } from '../errors.ts'
import type { Checkpoint } from './checkpoint.ts'
import { quantizationOf, quantizedCheckpoint, refuseAdapter } from './checkpoint_kinds.ts'
import { isFloat } from './dtypes.ts'
import { placeholder } from './placeholders.ts'
import type { StoredTensor } from './safetensors.ts'
import { isSparsePatch, patchedCheckpoint } from './sparse_patch.ts'
import type { TaskTensor, TaskVector } from './task_vector.ts'
import { isOutputLayer, sameBytes, tiedEmbedding } from './ties.ts'

/**
 * The task vector of a full fine-tuning: fine-tuned minus base, tensor by tensor.
 * @param tuned - the whole fine-tuned checkpoint, or a sparse patch of the base
 */
export async function fullTaskVector(base: Checkpoint, tuned: Checkpoint): Promise<TaskVector> {
  refuseAdapter(tuned)
  const finetuned = isSparsePatch(tuned) ? patchedCheckpoint(base, tuned) : tuned
  const notes: string[] = []
  const tensors: TaskTensor[] = []
  const copies: string[] = []
  /** Embeddings that the fine-tuning moved apart from the output layers that the base ties to them. */
  const apart = new Set<string>()
  const quantized = [base, finetuned].find((checkpoint) => quantizationOf(checkpoint) !== undefined)
  for (const theta of finetuned.tensors.values()) {
    const embedding = await tiedEmbedding(theta.name, theta.shape, base.tensors)
    if (embedding === undefined || theta.weights === 0) {
      const tensor = await deltaOf(theta, base, finetuned)
      if (tensor?.problem !== undefined && quantized !== undefined) {
        tensor.problem = quantizedCheckpoint(theta.name, quantized.name, quantizationOf(quantized)!)
      }
      if (tensor !== undefined) tensors.push(tensor)
      continue
    }
    const own = finetuned.tensors.get(embedding.name)
    const delta = deltaTensor(theta, embedding)
    if (own === undefined) tensors.push(delta)
    else if (await sameBytes(theta, own)) {
      copies.push(theta.name)
      notes.push(`${theta.name} is tied to the input embedding and counted once`)
    } else if (isOutputLayer(theta.name)) {
      apart.add(embedding.name)
      tensors.push({ ...delta, layout: 'linear' })
      notes.push(
        `${theta.name} is tied to ${embedding.name} in ${base.name} and apart from it in ${finetuned.name}: both change on their own`,
      )
    } else tensors.push({ ...delta, problem: untied(theta.name, embedding.name, base) })
  }
  for (const tensor of tensors) {
    if (apart.has(tensor.target) && tensor.layout === undefined) tensor.layout = 'embedding'
  }
  if (finetuned === tuned) await noteAbsent(base, finetuned, notes)
  return {
    method: 'full',
    tensors,
    copies,
    base: base.tensors,
    converted: base.converted,
    sources: finetuned.files,
    notes,
  }
}

/** What batch norms count while they train; nothing reads it afterwards. */
const COUNTER = /(^|\.)num_batches_tracked$/

function deltaTensor(theta: StoredTensor, init: StoredTensor): TaskTensor {
  const { name, shape } = theta
  return { name, shape, role: 'delta', target: init.name, knownAs: name, theta, init }
}

/** The delta of one tensor, with the reason where there is none; undefined for what is not a weight and did not change. */
async function deltaOf(
  theta: StoredTensor,
  base: Checkpoint,
  finetuned: Checkpoint,
): Promise<TaskTensor | undefined> {
  const { name, shape } = theta
  const init = base.tensors.get(name)
  const bare: TaskTensor = { name, shape, role: 'delta', target: name, theta, init: 0 }
  if (theta.weights === 0) return { ...bare, problem: placeholder(theta) }
  if (init === undefined) return { ...bare, problem: missing(name, base, finetuned) }
  if (init.weights === 0) return { ...bare, problem: placeholder(init) }
  if (init.shape.join() !== shape.join()) return { ...bare, problem: otherShape(name, init, theta) }
  if (!isFloat(theta.dtype) || !isFloat(init.dtype)) {
    if (COUNTER.test(name)) return undefined
    return (await sameBytes(init, theta)) ? undefined : { ...bare, problem: notFloat(name, theta.dtype) }
  }
  return { ...bare, init }
}

async function noteAbsent(base: Checkpoint, finetuned: Checkpoint, notes: string[]): Promise<void> {
  const absent: string[] = []
  for (const { name, shape } of base.tensors.values()) {
    if (finetuned.tensors.has(name)) continue
    const embedding = await tiedEmbedding(name, shape, base.tensors)
    if (embedding === undefined) absent.push(name)
    else notes.push(`${name} moves with ${embedding.name}, which it is a copy of in ${base.name}`)
  }
  if (absent.length === 0) return
  const more = absent.length > 5 ? ` and ${absent.length - 5} more` : ''
  notes.push(
    `Taken as unchanged because ${finetuned.name} does not hold them: ${absent.slice(0, 5).join(', ')}${more}`,
  )
}

function missing(name: string, base: Checkpoint, finetuned: Checkpoint): TritswapError {
  return new TritswapError(
    'input',
    `Cannot compare ${name}: ${finetuned.name} has it and the base ${base.name} does not; an expert changes weights of its base, so give the right base or leave the tensor out with --exclude`,
    { fields: { tensor: name } },
  )
}

function untied(name: string, embedding: string, base: Checkpoint): TritswapError {
  return new TritswapError(
    'unsupported',
    `Cannot compress ${name}: it moved apart from ${embedding}, which ${base.name} ties it to, and a model whose embeddings are one weight cannot hold both; save base and fine-tuning with untied embeddings (tie_word_embeddings = false) and export that model`,
    { fields: { tensor: name, tied: embedding } },
  )
}

function otherShape(name: string, base: StoredTensor, theta: StoredTensor): TritswapError {
  const resized = isOutputLayer(name) || /embed|wte|shared/.test(name)
  const why =
    resized && base.shape[1] === theta.shape[1]
      ? ' (a resized vocabulary does not fit the exported model)'
      : ''
  return new TritswapError(
    'input',
    `Cannot compare ${name}: expected shape [${base.shape}] as in the base, found [${theta.shape}]${why}; give the right base or leave the tensor out with --exclude`,
    { fields: { tensor: name, expected: base.shape, found: theta.shape } },
  )
}

function notFloat(name: string, dtype: string): TritswapError {
  return new TritswapError(
    'unsupported',
    `Cannot compress ${name}: expected weights in F32, F16, BF16 or F64, found ${dtype} that differs from the base; leave the tensor out with --exclude, or start from an unquantized checkpoint`,
    { fields: { tensor: name, dtype } },
  )
}
