import type { Checkpoint } from '../compress/checkpoint.ts'
import type { Inspection } from '../compress/inspect.ts'
import type { CompressReport, TensorReport } from '../compress/report.ts'
import { readFloats, type StoredTensor } from '../compress/safetensors.ts'
import { isEmbedding, isOutputLayer } from '../compress/ties.ts'
import { LARGE_CHANGE } from './defaults.ts'
import { formatNumber, someOf } from './format_text.ts'

/**
 * What an author should look at before publishing a file.
 * @param from.base - the checkpoint, where it is at hand
 * @param from.adapter - whether it was made from an adapter
 */
export async function compressWarnings(
  { empty, unmoved, tensors }: CompressReport,
  { base, method, totals }: Inspection,
  from: { base: Checkpoint | undefined; adapter: boolean },
): Promise<string[]> {
  const warnings: string[] = []
  if (empty.length > 0) {
    warnings.push(
      `nothing is kept of ${someOf(empty)}: the same as leaving ${empty.length === 1 ? 'it' : 'them'} out with --exclude; a larger --density, --threshold tensor or --dense '<glob>' keeps some`,
    )
  }
  const embeddings = unmoved.filter((name) => isEmbedding(name) || isOutputLayer(name))
  if (from.adapter && embeddings.length > 0) {
    warnings.push(
      `the adapter saved ${someOf(embeddings)} unchanged, and the file does without; save_pretrained(dir, save_embedding_layers=False) keeps such copies out of the adapter`,
    )
  }
  const change = method === 'full' && from.base !== undefined ? await relativeChange(tensors, from.base) : 0
  if (change >= LARGE_CHANGE) {
    const kept = totals.kept / totals.weights
    warnings.push(
      `the fine-tuning moved the weights by ${formatNumber(100 * change, 2)} % of their norm, as much as supervised fine-tuning of a whole model does, and ${formatNumber(100 * kept, 2)} % of the entries are kept: measure what is left with tritswap sweep --eval or --chats, or check that --base is what it started from`,
    )
  }
  if (from.adapter && from.base === undefined) {
    const named = base.name === undefined ? '' : `, such as --base hf:${base.name}`
    warnings.push(
      `without --base nothing in the file says which model it is for, so a page can only compare names and shapes; give it${named}`,
    )
  }
  return warnings
}

/** Norm of the task vector over that of the base, over the tensors that moved. */
async function relativeChange(tensors: readonly TensorReport[], base: Checkpoint): Promise<number> {
  let [moved, whole] = [0, 0]
  for (const { name, fit } of tensors) {
    const own = base.tensors.get(name)
    if (fit === undefined || own === undefined) continue
    moved += fit.sumSquares
    whole += own.weights * (await meanSquare(own))
  }
  return whole === 0 ? 0 : Math.sqrt(moved / whole)
}

/** Runs of a tensor that are looked at, and their length: for a norm to a few percent. */
const SAMPLE = { runs: 16, weights: 256 }

/** Of samples that lie evenly in the tensor. */
async function meanSquare(tensor: StoredTensor): Promise<number> {
  const length = Math.min(SAMPLE.weights, tensor.weights)
  const step = Math.max(length, Math.floor((tensor.weights - length) / (SAMPLE.runs - 1)))
  let [sum, count] = [0, 0]
  for (let at = 0; at + length <= tensor.weights; at += step) {
    for (const value of await readFloats(tensor, at, length)) sum += value * value
    count += length
  }
  return sum / count
}
