/**
 * Modules of a base as adapters see them: which weight belongs to a path, how it lies in the checkpoint, and its values as
 * [outputs, inputs].
 *
 * @module
 */
import type { ModuleLayout } from '../format/table.ts'
import { tilingOf } from '../format/tiling.ts'
import type { AdapterContext } from './adapter_context.ts'
import { quantizationOf, quantizedCheckpoint } from './checkpoint_kinds.ts'
import { isFloat } from './dtypes.ts'
import { valuesOf } from './kinds/kind.ts'
import { type Matrix, transposedMatrix } from './matrices.ts'
import { placeholder } from './placeholders.ts'
import type { StoredTensor } from './safetensors.ts'
import { isEmbedding, isOutputLayer, tiedEmbedding } from './ties.ts'

/** Output layers are nn.Linear even in models whose other layers are Conv1D. */
const ALWAYS_LINEAR = /(^|\.)(lm_head|score|classifier|embed_out)$/

export interface BaseModule {
  /** The tensor that holds the weight: the embedding's, where an output layer has none of its own. */
  weight: StoredTensor
  /** The checkpoint name of the module's weight. */
  knownAs: string
  layout: ModuleLayout
  /** Another module shares the weight. */
  isShared: boolean
  bias?: StoredTensor
}

/** Whether a module keeps its weight as [in, out], as the configuration says. */
export function keepsInputsFirst(path: string, fanInFanOut: boolean): boolean {
  return fanInFanOut && !ALWAYS_LINEAR.test(path)
}

/**
 * The module at a path; undefined where the base has none.
 * @throws {TritswapError} `input`, `unsupported` for a weight without plain values
 */
export async function baseModule(path: string, context: AdapterContext): Promise<BaseModule | undefined> {
  const { base, baseNames, settings } = context
  if (base === undefined || baseNames === undefined) return undefined
  const name = `${path}.weight`
  const own = baseNames.find(name)
  const knownAs = own?.name ?? name
  const shared = own === undefined ? await embeddingTiedTo(name, base.tensors) : undefined
  const tied = own === undefined ? shared : await tiedEmbedding(knownAs, own.shape, base.tensors)
  const weight = tied ?? own
  if (weight === undefined) return undefined
  if (weight.weights === 0) throw placeholder(weight)
  const scheme = quantizationOf(base)
  if (!isFloat(weight.dtype) && scheme !== undefined) throw quantizedCheckpoint(name, base.name, scheme)
  const isLookup = tied === undefined && isEmbedding(weight.name)
  const layout = isLookup
    ? 'embedding'
    : weight.shape.length > 2
      ? 'conv2d'
      : keepsInputsFirst(path, settings.fanInFanOut)
        ? 'conv1d'
        : 'linear'
  const isShared = tied !== undefined || (isLookup && (await isTiedTo(weight, base.tensors)))
  return { weight, knownAs, layout, isShared, bias: baseNames.find(`${path}.bias`) }
}

/** The embedding that an output layer without a tensor of its own is tied to. */
async function embeddingTiedTo(
  name: string,
  base: ReadonlyMap<string, StoredTensor>,
): Promise<StoredTensor | undefined> {
  if (!isOutputLayer(name)) return undefined
  for (const tensor of base.values()) {
    if (!isEmbedding(tensor.name)) continue
    const found = await tiedEmbedding(name, tensor.shape, base)
    if (found !== undefined) return found
  }
  return undefined
}

/** Whether an output layer of the base is tied to an embedding. */
async function isTiedTo(embedding: StoredTensor, base: ReadonlyMap<string, StoredTensor>): Promise<boolean> {
  const outputs = [...base.keys()].filter(isOutputLayer)
  for (const name of outputs.length > 0 ? outputs : ['lm_head.weight'])
    if ((await tiedEmbedding(name, embedding.shape, base)) === embedding) return true
  return false
}

/** Rows and columns of a weight as [outputs, inputs]; those of an embedding as they are. */
export function sizeOf({ weight, layout }: BaseModule): { rows: number; cols: number } {
  const { rows, cols } = tilingOf(weight.shape)
  return layout === 'conv1d' ? { rows: cols, cols: rows } : { rows, cols }
}

/** The values of a weight as [outputs, inputs]. */
export async function weightValues({ weight, layout }: BaseModule): Promise<Matrix> {
  const values = await valuesOf(weight)
  return layout === 'conv1d' ? transposedMatrix(values) : values
}
