import type { Checkpoint } from '../compress/checkpoint.ts'
import type { StoredTensor } from '../compress/safetensors.ts'
import { isTritswapError, TritswapError } from '../errors.ts'
import { readModelManifest, weightsRequest } from '../fetcher/manifest.ts'
import { formOf } from '../format/codecs/index.ts'
import { FLOAT_BYTES, SAFETENSORS_DTYPE_OF } from '../format/dtype.ts'
import { type TritHead, weightsOf } from '../format/index.ts'
import { fetchGraph } from '../model/graph_files.ts'
import { graphPath } from '../model/graph_path.ts'
import { onnxTensors } from '../model/onnx_checkpoint.ts'
import { hoistModel } from '../onnx/index.ts'
import { folderName } from '../source/model_folder.ts'
import type { ByteSource } from '../source/source.ts'
import { openVerified } from './verified_source.ts'

/** The base that is loaded on this page, as a checkpoint to subtract from. */
export interface PageBase {
  /** Undefined if the base is quantized: its weights are too far from those that were fine-tuned. */
  checkpoint?: Checkpoint
  name: string
  /** Fingerprint of the checkpoint that it was prepared from, if known. */
  fingerprint?: string
}

/**
 * Opens the loaded base again, without reading its weights: the weights file that `tritswap prepare` wrote, or the
 * graph that the engine rewrote.
 * @param folder - URL of its folder, absolute, with a slash at its end
 * @throws {TritswapError} `network`, `format`, `integrity`, `input`
 */
export async function openPageBase(folder: string, signal?: AbortSignal): Promise<PageBase> {
  const name = folderName(folder)
  const manifest = await readModelManifest(folder, signal)
  if (manifest === undefined) return { name, checkpoint: await onnxCheckpoint(folder, name, signal) }
  const { weights, dtype } = manifest
  const { source: url, parts } = weightsRequest(manifest, folder)
  const { head, source } = await openVerified(url, weights.rootHash, { signal, parts })
  const { base } = head.table
  const exact =
    /^fp(32|16)$/.test(dtype) && head.table.tensors.every((tensor) => formOf(tensor).kind === 'dense')
  return {
    name: base.name ?? name,
    fingerprint: base.fingerprint ?? manifest.fingerprint,
    checkpoint: exact ? baseCheckpoint(head, source, name) : undefined,
  }
}

function baseCheckpoint({ headBytes, table }: TritHead, source: ByteSource, name: string): Checkpoint {
  const tensors = new Map<string, StoredTensor>()
  for (const tensor of table.tensors) {
    // Other names hold a rounding of a tensor that the file has as well.
    const form = formOf(tensor)
    if (form.kind !== 'dense' || tensor.target !== tensor.name) continue
    const { shape, offset } = tensor
    const weights = weightsOf(shape)
    const bytes = weights * FLOAT_BYTES[form.dtype]
    const stored = { dtype: SAFETENSORS_DTYPE_OF[form.dtype], shape, weights, bytes, source }
    tensors.set(tensor.name, { ...stored, name: tensor.name, offset: headBytes + offset })
  }
  return { name, tensors, files: [source], metadata: {}, converted: true }
}

async function onnxCheckpoint(
  folder: string,
  name: string,
  signal?: AbortSignal,
): Promise<Checkpoint | undefined> {
  const graph = await firstGraph(folder, signal)
  const model = await hoistModel([graph], { quantized: 'keep' })
  if (model.quantized.length > 0) return undefined
  return { name, tensors: onnxTensors(model), files: [], metadata: {}, converted: true }
}

/** The graph that the engine takes by default. */
async function firstGraph(folder: string, signal?: AbortSignal) {
  try {
    return await fetchGraph(folder, graphPath('model', 'fp32'), { signal })
  } catch (error) {
    if (!isTritswapError(error, 'network') || error.fields.status !== 404) throw error
    return fetchGraph(folder, graphPath('model', 'fp16'), { signal })
  }
}

/** The error for a quantized base: a difference from it would say nothing. */
export function quantizedBase(name: string, base: string): TritswapError {
  return new TritswapError(
    'unsupported',
    `Cannot compress ${name} here: the loaded base ${base} is quantized, and a difference from it would be mostly rounding; load its fp16 or fp32 weights, or use "tritswap compress" with the base's checkpoint`,
    { fields: { name, base } },
  )
}
