/**
 * Names of an adapter's tensors, as `peft` writes them and as other trainers and converters do.
 *
 * @module
 */

/** What a tensor is to its module; `whole` is every tensor that is neither a factor nor an (IA)³ vector. */
export type AdapterPart = 'loraA' | 'loraB' | 'embeddingA' | 'embeddingB' | 'ia3' | 'whole'

export interface AdapterName {
  part: AdapterPart
  /** The module as the model calls it; of a whole tensor its own name. */
  path: string
  /** Name of the adapter, mostly `default`; `peft` itself leaves it out when it saves. */
  adapter?: string
}

/** `peft` wraps the model twice: PeftModel.base_model is a tuner, and its model is the user's. */
const PREFIX = /^(module\.)?base_model\.model\.(module\.)?/
/** Modules that torch puts around others: to compile them, to shard them, to recompute them. */
const WRAPPERS = /(^|\.)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)(?=\.)/g

/** Tools that extract adapters from weights put the weight's name before the factor's. */
const LORA = /^(.+?)(?:\.weight)?\.lora_([AB])(?:\.([^.]+))?\.weight$/
const LORA_EMBEDDING = /^(.+?)(?:\.weight)?\.lora_embedding_([AB])(?:\.([^.]+))?$/
const IA3 = /^(.+)\.ia3_l(?:\.([^.]+))?$/
/** What `peft` wraps a module in that it trains whole. */
const SAVED = /\.modules_to_save(?:\.[^.]+(?=\.[^.]+$))?(?=\.)/

export function parseAdapterName(name: string): AdapterName {
  const plain = name.replace(PREFIX, '').replaceAll(WRAPPERS, '$1').replace(/^\./, '').replaceAll('..', '.')
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
  const ia3 = IA3.exec(plain)
  if (ia3 !== null) return { part: 'ia3', path: ia3[1], adapter: ia3[2] }
  return { part: 'whole', path: plain.replace(SAVED, '').replace('.base_layer.', '.') }
}

/** The name of the other factor of a pair, written in the same way. */
export function otherFactor(name: string): string {
  return name.replace(
    /lora_(embedding_)?([AB])/,
    (_, kind = '', factor) => `lora_${kind}${factor === 'A' ? 'B' : 'A'}`,
  )
}
