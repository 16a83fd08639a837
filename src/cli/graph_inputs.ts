/**
 * Inputs of a model's graph from a safetensors file, as the graph takes them. Masks, positions and an empty cache are
 * made where the file has none: no token is masked, positions count from 0, as in torch's forward.
 *
 * @module
 */
import { isFloat } from '../compress/dtypes.ts'
import { readBytes, readFloats, type StoredTensor } from '../compress/safetensors.ts'
import { TritswapError } from '../errors.ts'
import { floatsToHalves } from '../format/float16.ts'
import { weightsOf } from '../format/index.ts'

/** A tensor of the file, or the output of another graph. */
export interface InputValues {
  dims: readonly number[]
  data: Float32Array | BigInt64Array | Int32Array | Uint8Array
}

/** The values of a graph input, in the type of the graph. */
export interface GraphInput {
  type: string
  dims: readonly number[]
  data: ArrayBufferView
}

/** An input as onnxruntime describes it; symbolic dimensions have names. */
export interface InputMetadata {
  name: string
  type: string
  shape: readonly (number | string)[]
}

/** Of a model's configuration: what the shape of an empty cache follows from where a graph leaves it open. */
export interface CacheConfig {
  num_key_value_heads?: number
  num_attention_heads?: number
  hidden_size?: number
  head_dim?: number
}

/** Whether {@link readInput} reads tensors of a dtype of safetensors. */
export function isInputDtype(dtype: string): boolean {
  return ['I64', 'I32', 'BOOL'].includes(dtype) || isFloat(dtype)
}

/** @throws {TritswapError} `unsupported` for a dtype that no graph input has */
export async function readInput(tensor: StoredTensor): Promise<InputValues> {
  const { name, dtype, shape: dims } = tensor
  const whole = async () => (await readBytes(tensor)).slice().buffer
  if (dtype === 'I64') return { dims, data: new BigInt64Array(await whole()) }
  if (dtype === 'I32') return { dims, data: new Int32Array(await whole()) }
  if (dtype === 'BOOL') return { dims, data: new Uint8Array(await whole()) }
  if (isFloat(dtype)) return { dims, data: await readFloats(tensor) }
  throw new TritswapError(
    'unsupported',
    `Cannot read ${name} as an input: expected I64, I32, F32, F16 or BOOL, found ${dtype}; convert it`,
    { fields: { tensor: name, dtype } },
  )
}

/**
 * Values of those inputs of a graph that no weight feeds, as far as they are given or can be made.
 * @param given - by name; a decoder beside an encoder takes `decoder_input_ids` for its tokens
 * @returns also the names of the inputs that are missing
 * @throws {TritswapError} `input` for values that the type of an input cannot hold
 */
export function graphInputs(
  metadata: readonly InputMetadata[],
  given: ReadonlyMap<string, InputValues>,
  config: CacheConfig = {},
): { values: Map<string, GraphInput>; missing: string[] } {
  const hasEncoder = metadata.some(({ name }) => name === 'encoder_hidden_states')
  const find = (name: string) =>
    (NAMES[name]?.(hasEncoder) ?? [name]).map((key) => given.get(key)).find((values) => values !== undefined)
  const ids = find('input_ids') ?? find('inputs_embeds')
  const [batch, tokens] = ids?.dims ?? [1, 1]
  const states = find('encoder_hidden_states')
  const values = new Map<string, GraphInput>()
  const missing: string[] = []
  for (const { name, type, shape } of metadata) {
    const found = find(name) ?? made(name, shape, { batch, tokens, states: states?.dims, config })
    if (found === undefined) missing.push(name)
    else values.set(name, { type, dims: found.dims, data: typed(name, type, found.data) })
  }
  return { values, missing }
}

/** Names in the file of an input of another name. */
const NAMES: Readonly<Record<string, (hasEncoder: boolean) => readonly string[]>> = {
  input_ids: (hasEncoder) => (hasEncoder ? ['decoder_input_ids'] : ['input_ids']),
  attention_mask: (hasEncoder) => (hasEncoder ? ['decoder_attention_mask'] : ['attention_mask']),
  encoder_attention_mask: () => ['encoder_attention_mask', 'attention_mask'],
}

interface Sizes {
  batch: number
  tokens: number
  /** Of the encoder's states. */
  states?: readonly number[]
  config: CacheConfig
}

/** An input that says nothing of its own; undefined for one that does. */
function made(
  name: string,
  shape: InputMetadata['shape'],
  { batch, tokens, states, config }: Sizes,
): InputValues | undefined {
  const integers = (dims: readonly number[], at: (i: number) => number) => {
    return { dims, data: Int32Array.from({ length: weightsOf(dims) }, (_, i) => at(i)) }
  }
  if (/^(decoder_)?attention_mask$/.test(name)) return integers([batch, tokens], () => 1)
  if (name === 'encoder_attention_mask') return states && integers(states.slice(0, 2), () => 1)
  if (name === 'position_ids') return integers([batch, tokens], (i) => i % tokens)
  if (name === 'cache_position') return integers([tokens], (i) => i)
  if (name === 'token_type_ids') return integers([batch, tokens], () => 0)
  // 0: all of them.
  if (/^num_logits_to_keep$|^logits_to_keep$/.test(name))
    return integers(shape.length === 0 ? [] : [1], () => 0)
  if (name === 'use_cache_branch') return integers([1], () => 0)
  if (/^past/.test(name)) return { dims: emptyCache(shape, batch, config), data: new Float32Array(0) }
  return undefined
}

/** [batch, heads, positions, size of a head], or in another order where the dimensions have names. */
function emptyCache(shape: InputMetadata['shape'], batch: number, config: CacheConfig): number[] {
  const { num_attention_heads: heads = 1, hidden_size = heads } = config
  return shape.map((dim, i) => {
    if (typeof dim === 'number') return dim
    if (/len|past|seq/.test(dim)) return 0
    if (i === 0) return batch
    if (i === 1) return config.num_key_value_heads ?? heads
    return i === 2 ? 0 : (config.head_dim ?? hidden_size / heads)
  })
}

/** @throws {TritswapError} `input` for fractions where the graph takes integers, `unsupported` for its type */
function typed(name: string, type: string, data: InputValues['data']): ArrayBufferView {
  const numbers = () => (data instanceof BigInt64Array ? Float64Array.from(data, Number) : data)
  if (type === 'float32') return Float32Array.from(numbers())
  if (type === 'float64') return Float64Array.from(numbers())
  if (type === 'float16') return floatsToHalves(Float32Array.from(numbers()))
  if (type === 'bool') return Uint8Array.from(numbers(), (value) => Number(value !== 0))
  if (!/^(int64|int32|uint8)$/.test(type)) {
    throw new TritswapError('unsupported', `Cannot use ${name}: the graph takes it as ${type}`, {
      fields: { input: name, type },
    })
  }
  if (data instanceof Float32Array && !data.every(Number.isInteger)) {
    throw new TritswapError(
      'input',
      `Cannot use ${name}: expected whole numbers for ${type}, found fractions`,
      {
        fields: { input: name, type },
      },
    )
  }
  if (type === 'int64') return data instanceof BigInt64Array ? data : BigInt64Array.from(data, BigInt)
  if (type === 'int32') return Int32Array.from(numbers())
  return Uint8Array.from(numbers())
}
