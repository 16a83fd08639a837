import { TritswapError } from '../errors.ts'
import type { Checkpoint } from './checkpoint.ts'
import { isFloat } from './dtypes.ts'
import { readBytes, type StoredTensor } from './safetensors.ts'
import type { TaskTensor, TaskVector } from './task_vector.ts'

/** The output matrix of models that tie it to the input embedding, and copies of shared embeddings. */
const TIED_COPY =
  /(^|\.)(lm_head|embed_out|predictions\.decoder)\.weight$|^(encoder|decoder)\.embed_tokens\.weight$/
const EMBEDDING = /(embed|wte|shared)/

/** The task vector of a full fine-tuning: fine-tuned minus base, tensor by tensor. */
export async function fullTaskVector(base: Checkpoint, finetuned: Checkpoint): Promise<TaskVector> {
  const notes: string[] = []
  const tensors: TaskTensor[] = []
  for (const theta of finetuned.tensors.values()) {
    const { name, shape } = theta
    const init = base.tensors.get(name)
    if (theta.weights === 0) continue
    const common = { name, shape, role: 'delta' as const, target: name, theta, init: init ?? (0 as const) }
    if (init === undefined) {
      tensors.push({ ...common, problem: missing(name, base, finetuned) })
    } else if (init.shape.join() !== shape.join()) {
      tensors.push({ ...common, problem: otherShape(name, init, theta) })
    } else if (!isFloat(theta.dtype) || !isFloat(init.dtype)) {
      if (!(await sameTensor(init, theta))) tensors.push({ ...common, problem: notFloat(name, theta.dtype) })
    } else if (TIED_COPY.test(name) && (await hasTwin(name, base, finetuned))) {
      notes.push(`${name} is tied to the input embedding and counted once`)
    } else {
      tensors.push(common)
    }
  }
  const absent = [...base.tensors.keys()].filter((name) => !finetuned.tensors.has(name))
  if (absent.length > 0) {
    notes.push(
      `Taken as unchanged because ${finetuned.name} does not hold them: ${absent.slice(0, 5).join(', ')}${absent.length > 5 ? ` and ${absent.length - 5} more` : ''}`,
    )
  }
  return {
    method: 'full',
    tensors,
    base: base.tensors,
    converted: base.converted,
    sources: finetuned.files,
    notes,
  }
}

/** True if an embedding of the same shape has the same bytes in both checkpoints. */
async function hasTwin(name: string, base: Checkpoint, finetuned: Checkpoint): Promise<boolean> {
  for (const other of finetuned.tensors.keys()) {
    if (other === name || !EMBEDDING.test(other) || TIED_COPY.test(other)) continue
    const twins = [base, finetuned].map(({ tensors }) => [tensors.get(name), tensors.get(other)])
    const same = await Promise.all(
      twins.map(([a, b]) => a !== undefined && b !== undefined && sameTensor(a, b)),
    )
    if (same.every(Boolean)) return true
  }
  return false
}

const COMPARE_WEIGHTS = 2 ** 20

async function sameTensor(a: StoredTensor, b: StoredTensor): Promise<boolean> {
  if (a.dtype !== b.dtype || a.shape.join() !== b.shape.join()) return false
  for (let from = 0; from < a.weights; from += COMPARE_WEIGHTS) {
    const count = Math.min(COMPARE_WEIGHTS, a.weights - from)
    const [x, y] = await Promise.all([readBytes(a, from, count), readBytes(b, from, count)])
    if (!x.every((byte, i) => byte === y[i])) return false
  }
  return true
}

function missing(name: string, base: Checkpoint, finetuned: Checkpoint): TritswapError {
  return new TritswapError(
    'input',
    `Cannot compare ${name}: ${finetuned.name} has it and the base ${base.name} does not; an expert changes weights of its base, so give the right base or leave the tensor out with --exclude`,
    { fields: { tensor: name } },
  )
}

function otherShape(name: string, base: StoredTensor, theta: StoredTensor): TritswapError {
  return new TritswapError(
    'input',
    `Cannot compare ${name}: expected shape [${base.shape}] as in the base, found [${theta.shape}]; give the right base or leave the tensor out with --exclude`,
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
