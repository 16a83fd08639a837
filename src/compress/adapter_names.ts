/**
 * Names of an adapter's tensors, as `peft` writes them and as other trainers and converters do.
 *
 * @module
 */

/**
 * What a tensor is to its module: `magnitude` is DoRA's, `bias` that of LoRA's B, `formed` a tensor of some other kind of
 * adapter, `whole` every other tensor.
 */
export type AdapterPart =
  | 'loraA'
  | 'loraB'
  | 'embeddingA'
  | 'embeddingB'
  | 'magnitude'
  | 'bias'
  | 'ia3'
  /** Virtual tokens, which belong to no module. */
  | 'virtual'
  | 'formed'
  | 'whole'

/** What the tensors of a kind of adapter are called. */
export interface FormedPieces {
  /** Of a module: its path, the tensor, the adapter. */
  pattern: RegExp
  shared: readonly string[]
}

/** @param parts - names after a module's path, of word characters alone */
export function formedPieces(parts: readonly string[], shared: readonly string[] = []): FormedPieces {
  const names = parts.length === 0 ? '(?!)' : parts.join('|')
  // Rows of an embedding are in a wrapper of their own.
  const pattern = String.raw`^(.+?)(?:\.token_adapter)?\.(${names})(?:\.(?!weight$)([^.]+))?(?:\.weight)?$`
  return { pattern: new RegExp(pattern), shared }
}

export interface AdapterName {
  part: AdapterPart
  /** The module as the model calls it; of a whole tensor its own name. */
  path: string
  /** Name of the adapter, mostly `default`; `peft` itself leaves it out when it saves. */
  adapter?: string
  /** Of `formed`: which of its kind's tensors it is. */
  piece?: string
}

/** `peft` wraps the model twice: PeftModel.base_model is a tuner, and its model is the user's. */
const PREFIX = /^(module\.)?base_model\.model\.(module\.)?/
/** Modules that torch puts around others: to compile them, to shard them, to recompute them. */
const WRAPPERS = /(^|\.)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)(?=\.)/g

/** Tools that extract adapters from weights put the weight's name before the factor's. */
const LORA = /^(.+?)(?:\.weight)?\.lora_([AB])(?:\.([^.]+))?\.weight$/
const LORA_EMBEDDING = /^(.+?)(?:\.weight)?\.lora_embedding_([AB])(?:\.([^.]+))?$/
const MAGNITUDE = /^(.+?)\.lora_magnitude_vector(?:\.(?!weight$)([^.]+))?(?:\.weight)?$/
const BIAS_OF_B = /^(.+?)\.lora_B(?:\.([^.]+))?\.bias$/
const IA3 = /^(.+)\.ia3_l(?:\.([^.]+))?$/
const VIRTUAL = /^prompt_embeddings$/
/** What `peft` wraps a module in that it trains whole. */
const SAVED = /\.(?:modules_to_save|ln_tuning_layers)(?:\.[^.]+(?=\.[^.]+$))?(?=\.)/
/** Tensors that all modules of an adapter share lie beside the model. */
const SHARED = /^(?:base_model\.)?([^.]+)(?:\.([^.]+))?$/

/** @param pieces - names of tensors of a kind of adapter, with and without a module before them */
export function parseAdapterName(name: string, pieces?: FormedPieces): AdapterName {
  const shared = SHARED.exec(name)
  if (shared !== null && pieces?.shared.includes(shared[1])) {
    return { part: 'formed', path: '', piece: shared[1], adapter: shared[2] }
  }
  const plain = name.replace(PREFIX, '').replaceAll(WRAPPERS, '$1').replace(/^\./, '').replaceAll('..', '.')
  if (pieces !== undefined) {
    const own = pieces.pattern.exec(plain)
    if (own !== null) return { part: 'formed', path: own[1], piece: own[2], adapter: own[3] }
  }
  const embedding = LORA_EMBEDDING.exec(plain)
  if (embedding !== null) {
    const [, path, factor, adapter] = embedding
    return { part: factor === 'A' ? 'embeddingA' : 'embeddingB', path, adapter }
  }
  const lora = LORA.exec(plain)
  if (lora !== null) {
    const [, path, factor, adapter] = lora
    return { part: factor === 'A' ? 'loraA' : 'loraB', path, adapter }
  }
  for (const [part, pattern] of [
    ['magnitude', MAGNITUDE],
    ['bias', BIAS_OF_B],
  ] as const) {
    const found = pattern.exec(plain)
    if (found !== null) return { part, path: found[1], adapter: found[2] }
  }
  const ia3 = IA3.exec(plain)
  if (ia3 !== null) return { part: 'ia3', path: ia3[1], adapter: ia3[2] }
  if (VIRTUAL.test(plain)) return { part: 'virtual', path: plain }
  return { part: 'whole', path: plain.replace(SAVED, '').replace('.base_layer.', '.') }
}

/** The name of the other factor of a pair, written in the same way. */
export function otherFactor(name: string): string {
  return name.replace(
    /lora_(embedding_)?([AB])/,
    (_, kind = '', factor) => `lora_${kind}${factor === 'A' ? 'B' : 'A'}`,
  )
}
