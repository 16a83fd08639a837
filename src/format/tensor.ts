/** `expert`: a task vector. `base`: the weights of a prepared base model. */
export type TritKind = 'expert' | 'base'

/**
 * What one tensor is: a delta of a base tensor, a LoRA factor, an (IA)³ vector (as l − 1), or virtual tokens: rows that are read
 * before a prompt in place of an embedding's, or keys and values of a layer.
 */
export type TensorRole = 'delta' | 'loraA' | 'loraB' | 'ia3' | 'virtual'

/** How the module that a LoRA factor or (IA)³ vector belongs to keeps its weight. */
export type ModuleLayout = 'linear' | 'conv1d' | 'conv2d' | 'embedding'

/** What the table says of a tensor whatever its codec. */
export interface TensorCommon {
  /** As in the checkpoint or adapter that the expert was made from. */
  name: string
  shape: readonly number[]
  role: TensorRole
  /** Checkpoint name of the base tensor it changes; `name` itself for deltas unless stated. */
  target: string
  /** `loraB` only: what B·A is multiplied with (lora_alpha / r, or / √r). */
  scaling?: number
  /** LoRA and (IA)³: the module's kind. */
  layout?: ModuleLayout
  /** (IA)³ only: the vector scales the module's input instead of its output. */
  feedforward?: boolean
  /** Bytes of its section in the payload, a multiple of 4; sections follow one another in table order. */
  bytes: number
  /** Where the section starts in the payload. */
  offset: number
}

/** A tensor of any codec; `codec` is the codec's name. */
export interface CodedTensor extends TensorCommon {
  codec: string
}

/** What a tensor's values are made of: its shape and what its codec says of it, wherever its section lies. */
export type Described<T extends CodedTensor = CodedTensor> = Omit<
  T,
  Exclude<keyof TensorCommon, 'name' | 'shape'>
>

/** `Omit` from each member of a union. */
export type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never
