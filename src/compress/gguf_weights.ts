/**
 * The weights of a Llama-like model out of a GGUF file, under the names and in the order of rows that its Hugging Face
 * checkpoint has. Quantized ones stay as they are: the parts of a block go to the components of `codecs/nbits`.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import type { NBitsCode, NBitsComponent } from '../format/codecs/nbits_decode.ts'
import type { ByteSource } from '../source/source.ts'
import { GGUF_TYPES, type GgufFile, type GgufTensor, readGguf } from './gguf.ts'

/** A tensor in floats: its values in flat row-major order. */
export interface GgufFloats {
  shape: readonly number[]
  dtype: 'float16' | 'float32'
  source: ByteSource
}

/** A tensor quantized by blocks: the bytes of each component. */
export interface GgufBlocks {
  shape: readonly number[]
  code: NBitsCode
  components: Partial<Record<NBitsComponent, ByteSource>>
}

export type GgufWeight = GgufFloats | GgufBlocks

const MODULES: Readonly<Record<string, string>> = {
  attn_norm: 'input_layernorm',
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_output: 'self_attn.o_proj',
  attn_q_norm: 'self_attn.q_norm',
  attn_k_norm: 'self_attn.k_norm',
  ffn_norm: 'post_attention_layernorm',
  ffn_gate: 'mlp.gate_proj',
  ffn_up: 'mlp.up_proj',
  ffn_down: 'mlp.down_proj',
}

const WHOLE: Readonly<Record<string, string>> = {
  token_embd: 'model.embed_tokens',
  output_norm: 'model.norm',
  output: 'lm_head',
}

/** Architectures with these names, and whether llama.cpp interleaves the rows of their queries and keys. */
const ARCHITECTURES: Readonly<Record<string, { interleaved: boolean }>> = {
  llama: { interleaved: true },
  qwen2: { interleaved: false },
  qwen3: { interleaved: false },
}

/**
 * Reads what a GGUF file holds, not yet the weights themselves.
 * @returns weights by the names of the checkpoint
 * @throws {TritswapError} `unsupported` for another architecture or type of weights, `format`, `limit`
 */
export async function readGgufWeights(source: ByteSource): Promise<Map<string, GgufWeight>> {
  const file = await readGguf(
    source,
    (key) => key === ARCHITECTURE || /\.attention\.head_count(_kv)?$/.test(key),
  )
  const architecture = String(file.metadata.get(ARCHITECTURE))
  const known = Object.hasOwn(ARCHITECTURES, architecture) ? ARCHITECTURES[architecture] : undefined
  if (known === undefined) {
    throw new TritswapError(
      'unsupported',
      `Cannot take the weights of ${source.name}: its architecture is ${architecture.slice(0, 40)}, and the names of ${Object.keys(ARCHITECTURES).join(', ')} are known`,
      { fields: { name: source.name, architecture } },
    )
  }
  const weights = new Map<string, GgufWeight>()
  for (const tensor of file.tensors) {
    const name = checkpointName(tensor.name)
    if (name === undefined) continue
    const heads = known.interleaved ? headsOf(tensor.name, architecture, file) : undefined
    weights.set(name, weightOf(heads === undefined ? tensor : withRowsInOrder(tensor, heads, file.name)))
  }
  return weights
}

const ARCHITECTURE = 'general.architecture'

/** The name of a tensor in the checkpoint; undefined for one that no checkpoint has, such as rotary frequencies. */
function checkpointName(name: string): string | undefined {
  const [, layer, module, kind] = /^(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)$/.exec(name) ?? []
  const names = layer === undefined ? WHOLE : MODULES
  if (module === undefined || !Object.hasOwn(names, module)) return undefined
  return layer === undefined ? `${names[module]}.${kind}` : `model.layers.${layer}.${names[module]}.${kind}`
}

/** Heads of a projection whose rows llama.cpp interleaves. */
function headsOf(name: string, architecture: string, { metadata }: GgufFile): number | undefined {
  const [, which] = /\.attn_([qk])\.(?:weight|bias)$/.exec(name) ?? []
  if (which === undefined) return undefined
  const count = (key: string) => metadata.get(`${architecture}.attention.${key}`)
  return Number(which === 'k' ? (count('head_count_kv') ?? count('head_count')) : count('head_count'))
}

/**
 * llama.cpp rotates neighbours where checkpoints rotate the two halves of a head, so its converter interleaves the rows
 * of the halves. Here they are put back; a block lies in one row, so it stays whole.
 */
function withRowsInOrder(tensor: GgufTensor, heads: number, file: string): GgufTensor {
  const [rows] = tensor.shape
  const half = rows / heads / 2
  if (!Number.isInteger(half) || half < 1) {
    throw new TritswapError(
      'format',
      `Cannot read ${file}: ${tensor.name} has ${rows} rows, and ${heads} heads`,
      {
        fields: { name: file, tensor: tensor.name, rows, heads },
      },
    )
  }
  const rowBytes = tensor.bytes / rows
  const whole = async () => {
    const stored = await tensor.source.read(tensor.offset, tensor.bytes)
    const ordered = new Uint8Array(tensor.bytes)
    for (let row = 0; row < rows; row++) {
      const inHead = row % (2 * half)
      const from = row - inHead + 2 * (inHead % half) + Math.floor(inHead / half)
      ordered.set(stored.subarray(from * rowBytes, (from + 1) * rowBytes), row * rowBytes)
    }
    return ordered
  }
  return { ...tensor, source: computed(tensor.name, tensor.bytes, whole), offset: 0 }
}

const CODES: Readonly<Partial<Record<GgufTensor['type'], NBitsCode>>> = {
  Q4_0: { bits: 4, blockSize: 32, dtype: 'f16' },
  Q4_1: { bits: 4, blockSize: 32, dtype: 'f16', minimums: true },
  Q8_0: { bits: 8, blockSize: 32, dtype: 'f16' },
}

function weightOf(tensor: GgufTensor): GgufWeight {
  const { name, type, shape, source, offset, bytes } = tensor
  const stored = () => source.read(offset, bytes)
  const code = CODES[type]
  if (code === undefined) {
    if (type !== 'BF16')
      return { shape, dtype: type === 'F16' ? 'float16' : 'float32', source: computed(name, bytes, stored) }
    return { shape, dtype: 'float32', source: computed(name, 2 * bytes, async () => widened(await stored())) }
  }
  const { weights, bytes: blockBytes } = GGUF_TYPES[type]
  const blocks = bytes / blockBytes
  const integersAt = code.minimums ? 4 : 2
  const part = (length: number, take: (block: Uint8Array, to: Uint8Array) => void) =>
    computed(name, blocks * length, async () => {
      const from = await stored()
      const component = new Uint8Array(blocks * length)
      for (let i = 0; i < blocks; i++) {
        const block = from.subarray(i * blockBytes, (i + 1) * blockBytes)
        take(block, component.subarray(i * length, (i + 1) * length))
      }
      return component
    })
  const components: GgufBlocks['components'] = {
    weights: part((weights * code.bits) / 8, (block, to) => {
      const integers = block.subarray(integersAt)
      if (code.bits === 8) takeBytes(integers, to)
      else takeNibbles(integers, to)
    }),
    scales: part(2, (block, to) => to.set(block.subarray(0, 2))),
  }
  if (code.minimums) components.minimums = part(2, (block, to) => to.set(block.subarray(2, 4)))
  return { shape, code, components }
}

/** Signed integers around 0 become unsigned ones around 128. */
function takeBytes(integers: Uint8Array, to: Uint8Array): void {
  for (let i = 0; i < to.length; i++) to[i] = integers[i] ^ 0x80
}

/** The low halves of all bytes come first, then the high ones; here neighbours share a byte. */
function takeNibbles(integers: Uint8Array, to: Uint8Array): void {
  const half = to.length
  const nibble = (i: number) => (i < half ? integers[i] & 15 : integers[i - half] >>> 4)
  for (let i = 0; i < to.length; i++) to[i] = nibble(2 * i) | (nibble(2 * i + 1) << 4)
}

/** bfloat16 as f32. */
function widened(stored: Uint8Array): Uint8Array<ArrayBuffer> {
  const wide = new Uint8Array(2 * stored.length)
  for (let i = 0; i < stored.length; i += 2) wide.set(stored.subarray(i, i + 2), 2 * i + 2)
  return wide
}

/** Bytes that are computed when they are read. */
function computed(name: string, bytes: number, compute: () => Promise<Uint8Array<ArrayBuffer>>): ByteSource {
  return {
    name,
    size: async () => bytes,
    read: async (offset, length) => (await compute()).subarray(offset, offset + length),
  }
}
