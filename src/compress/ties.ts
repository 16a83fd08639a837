/**
 * Weights that two modules share: an output layer that multiplies with the input embedding, and the embeddings of an
 * encoder and a decoder. A base ties them where its file holds one of them, or both with the same values. What changes
 * one module of the two is a delta of the shared tensor with that module's layout; without one it is of both.
 *
 * @module
 */
import { isFloat } from './dtypes.ts'
import { readBytes, type StoredTensor } from './safetensors.ts'

/** Output layers that models tie to their input embedding. */
const OUTPUT =
  /(^|\.)(lm_head|lm_head\.decoder|generator_lm_head|embed_out|predictions\.decoder|vocab_projector|pred_layer\.proj|proj_out|output_projection)\.weight$/
/** Embeddings that encoder-decoder models share. */
const EMBEDDING_COPY = /(^|\.)(encoder|decoder)\.embed_tokens\.weight$/
/** Input embeddings of tokens. */
const EMBEDDING =
  /(^|\.)(shared|wte|embed_in|embed_tokens|tok_embeddings|token_embedding|word_embeddings?|embeddings?)\.weight$/

/** Whether a name is that of an output layer, which may be tied to the embedding. */
export function isOutputLayer(name: string): boolean {
  return OUTPUT.test(name)
}

export function isEmbedding(name: string): boolean {
  return EMBEDDING.test(name)
}

/**
 * The embedding that a base ties a tensor to: the base has no tensor of that name, or one with the same bytes.
 * @param shape - of the tensor that goes by the name
 */
export async function tiedEmbedding(
  name: string,
  shape: readonly number[],
  base: ReadonlyMap<string, StoredTensor>,
): Promise<StoredTensor | undefined> {
  if (!OUTPUT.test(name) && !EMBEDDING_COPY.test(name)) return undefined
  const embedding = embeddingFor(name, shape, base)
  const own = base.get(name)
  if (embedding === undefined || own === embedding) return undefined
  return own === undefined || (await sameBytes(own, embedding)) ? embedding : undefined
}

/** Names of tensors that are copies of an embedding in the same checkpoint. */
export async function tiedCopies(tensors: ReadonlyMap<string, StoredTensor>): Promise<string[]> {
  const copies: string[] = []
  for (const { name, shape } of tensors.values())
    if ((await tiedEmbedding(name, shape, tensors)) !== undefined) copies.push(name)
  return copies
}

/** The one embedding of a shape: that of all modules before that of the decoder, whose tokens the output layer names. */
function embeddingFor(
  name: string,
  shape: readonly number[],
  base: ReadonlyMap<string, StoredTensor>,
): StoredTensor | undefined {
  const found = [...base.values()].filter(
    (tensor) =>
      EMBEDDING.test(tensor.name) &&
      tensor.name !== name &&
      isFloat(tensor.dtype) &&
      tensor.shape.length === 2 &&
      tensor.shape.join() === shape.join(),
  )
  const shared = found.filter((tensor) => !EMBEDDING_COPY.test(tensor.name))
  if (shared.length > 0) return shared.length === 1 ? shared[0] : undefined
  if (EMBEDDING_COPY.test(name)) return undefined
  return found.length === 1 ? found[0] : found.find((tensor) => tensor.name.includes('decoder.'))
}

const COMPARE_WEIGHTS = 2 ** 20

/** Whether two tensors have one dtype, one shape and the same bytes. */
export async function sameBytes(a: StoredTensor, b: StoredTensor): Promise<boolean> {
  if (a.dtype !== b.dtype || a.shape.join() !== b.shape.join()) return false
  for (let from = 0; from < a.weights; from += COMPARE_WEIGHTS) {
    const count = Math.min(COMPARE_WEIGHTS, a.weights - from)
    const [x, y] = await Promise.all([readBytes(a, from, count), readBytes(b, from, count)])
    if (!x.every((byte, i) => byte === y[i])) return false
  }
  return true
}
