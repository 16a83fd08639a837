/**
 * The table of a `.trit` file: what it holds, where, and for which base. Stored as deflated JSON; read with every
 * field checked, because it comes from the network.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { parseJsonText } from '../source/json.ts'
import { type BaseBindings, bindingsFrom } from './bindings.ts'
import { wordsFor } from './bits.ts'
import { type BlocksCode, blocksLayout } from './codecs/nbits.ts'
import type { TernaryCode } from './codecs/ternary.ts'
import {
  array,
  integer,
  invalid,
  number,
  object,
  oneOf,
  optionalHash,
  optionalNumber,
  optionalText,
  overLimit,
  shapeOf,
  text,
} from './fields.ts'
import { golombCode, MAX_GOLOMB } from './golomb.ts'
import {
  MAX_BLOCK_SIZE,
  MAX_LENGTH_BITS,
  MAX_NAME_LENGTH,
  MAX_PAYLOAD_BYTES,
  MAX_RANK,
  MAX_SOURCES,
  MAX_STREAM_BITS,
  MAX_TABLE_JSON,
  MAX_TENSOR_WEIGHTS,
  MAX_TENSORS,
  MIN_BLOCK_SIZE,
} from './limits.ts'
import { tilingOf, weightsOf } from './tiling.ts'

/** `expert`: a task vector. `base`: the weights of a prepared base model, every tensor `dense` or `blocks`. */
export type TritKind = 'expert' | 'base'

/** What the expert's tensors are to the base (ComPEFT section 2): theta_init is the base, 0 or 1. */
export type TritMethod = 'full' | 'lora' | 'ia3'

/** What one tensor is: a delta of a base tensor, a LoRA factor, or an (IA)³ vector (as l − 1). */
export type TensorRole = 'delta' | 'loraA' | 'loraB' | 'ia3'

/** How the module that a LoRA factor or (IA)³ vector belongs to keeps its weight. */
export type ModuleLayout = 'linear' | 'conv1d' | 'conv2d' | 'embedding'

interface TensorCommon {
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

export interface TernaryTensor extends TensorCommon, TernaryCode {
  codec: 'ternary'
  /** Value of every kept entry but for its sign. Exact in f32. */
  scale: number
}

export interface DenseTensor extends TensorCommon {
  codec: 'dense'
  dtype: 'f16' | 'f32'
}

/** Weights of a base that was quantized by blocks. */
export interface BlocksTensor extends TensorCommon, BlocksCode {
  codec: 'blocks'
}

export type TritTensor = TernaryTensor | DenseTensor | BlocksTensor

/** How the kept entries were chosen and valued; free-standing numbers for `inspect` and model cards. */
export interface CompressionRecord {
  density?: number
  alpha?: number
  scale?: string
  threshold?: string
  score?: string
}

export interface BaseRecord {
  /** A name for people; never trusted. */
  name?: string
  /** SHA-256 of the source checkpoint (`fingerprintOf`), lower-case hex. */
  fingerprint?: string
  /** Eight f16 values per distinct target, in order of first appearance (`sketch.ts`), as u16. */
  sketch?: Uint16Array
}

export interface SourceRecord {
  name: string
  sha256?: string
}

export interface TritTable {
  kind: TritKind
  method: TritMethod
  tensors: TritTensor[]
  base: BaseRecord
  compression: CompressionRecord
  sources: SourceRecord[]
  /** `base` only: graph inputs that the tensors feed. */
  bindings?: BaseBindings
  label?: string
  description?: string
  prompt?: string
  licence?: string
  createdWith?: string
}

/** A tensor before it has a place in the payload. */
export type NewTensor =
  | Omit<TernaryTensor, 'offset'>
  | Omit<DenseTensor, 'offset'>
  | Omit<BlocksTensor, 'offset'>

export const SKETCH_VALUES = 8

const CODECS_OF = {
  base: 'a base has: dense, or blocks',
  expert: 'an expert has: ternary, or dense',
} as const

/** Distinct targets in order of first appearance: the order of the sketch. */
export function targetsOf(tensors: readonly { target: string }[]): string[] {
  return [...new Set(tensors.map((tensor) => tensor.target))]
}

/**
 * Bytes that a section must have if its table entry is true, as far as the table alone can tell. After this,
 * what a decoder allocates for a tensor is at most 20 times the bytes of its section: 5 bytes for an entry that
 * takes no less than 2 bits.
 */
function checkSection(tensor: TritTensor): void {
  const weights = weightsOf(tensor.shape)
  if (tensor.codec === 'dense') {
    const expected = Math.ceil((weights * (tensor.dtype === 'f16' ? 2 : 4)) / 4) * 4
    if (tensor.bytes !== expected) {
      throw invalid(`bytes of ${tensor.name}`, `${expected} bytes of ${tensor.dtype}`, tensor.bytes)
    }
    return
  }
  if (tensor.codec === 'blocks') {
    const { rows, perRow, bytes } = blocksLayout(tensor.shape, tensor)
    // Filled-up blocks can hold more than the tensor.
    const padded = rows * perRow * tensor.blockSize
    if (padded > MAX_TENSOR_WEIGHTS)
      throw overLimit(`weights in the blocks of ${tensor.name}`, padded, MAX_TENSOR_WEIGHTS)
    if (tensor.bytes !== bytes) {
      throw invalid(`bytes of ${tensor.name}`, `${bytes} bytes of ${tensor.bits}-bit blocks`, tensor.bytes)
    }
    return
  }
  const { kept, m, lengthMin, lengthBits } = tensor
  const { blocks } = tilingOf(tensor.shape)
  const index = wordsFor(blocks * lengthBits)
  const leastBits = Math.max(blocks * lengthMin, kept * (2 + golombCode(m).low))
  const mostBits = Math.min(blocks * (lengthMin + 2 ** lengthBits - 1), MAX_STREAM_BITS)
  const least = 4 * (index + wordsFor(leastBits))
  const most = 4 * (index + wordsFor(mostBits))
  if (tensor.bytes % 4 !== 0 || tensor.bytes < least || tensor.bytes > most) {
    throw invalid(`bytes of ${tensor.name}`, `whole words, ${least} to ${most} bytes`, tensor.bytes)
  }
}

/** JSON of a table. Defaults are left out; floats are the shortest decimals that read back to the same f32. */
export function tableToJson(table: Omit<TritTable, 'tensors'> & { tensors: readonly NewTensor[] }): string {
  const { base, compression, sources, tensors, ...rest } = table
  return JSON.stringify({
    ...rest,
    base: { ...base, sketch: base.sketch && toBase64(base.sketch) },
    compression,
    sources,
    tensors: tensors.map((tensor) => {
      const { name, shape, role, target, codec, bytes, layout, feedforward, scaling } = tensor
      return {
        name,
        shape,
        role: role === 'delta' ? undefined : role,
        target: target === name ? undefined : target,
        codec: codec === 'ternary' ? undefined : codec,
        ...codecFields(tensor),
        bytes,
        scaling,
        layout,
        feedforward: feedforward || undefined,
      }
    }),
  })
}

function codecFields(tensor: NewTensor): object {
  if (tensor.codec === 'dense') return { dtype: tensor.dtype }
  if (tensor.codec === 'ternary') {
    const { kept, scale, m, lengthMin, lengthBits } = tensor
    return { kept, scale: shortest(scale), m, lengthMin, lengthBits }
  }
  const { bits, blockSize, dtype, zeroPoints, transposed } = tensor
  return { bits, blockSize, dtype, zeroPoints, transposed: transposed || undefined }
}

/**
 * Reads and checks a table.
 * @throws {TritswapError} `format` naming the field, what it should be and what it is; `limit` for sizes.
 */
export function tableFromJson(json: string, payloadBytes: number): TritTable {
  const value = parseJsonText(json, 'the table', MAX_TABLE_JSON)
  const root = object(value, 'table')
  const kind = oneOf(root.kind, 'kind', ['expert', 'base'] as const)
  const list = array(root.tensors, 'tensors', MAX_TENSORS)
  if (list.length === 0) throw invalid('tensors', 'at least one tensor', 'none')
  const names = new Set<string>()
  const tensors: TritTensor[] = []
  let offset = 0
  for (const [i, item] of list.entries()) {
    const tensor = tensorFromJson(object(item, `tensors[${i}]`), `tensors[${i}]`, offset)
    if (names.has(tensor.name)) throw invalid(`tensors[${i}].name`, 'a name that is not taken', tensor.name)
    names.add(tensor.name)
    if (kind === 'base' ? tensor.codec === 'ternary' || tensor.role !== 'delta' : tensor.codec === 'blocks') {
      throw invalid(`tensors[${i}]`, `a tensor as ${CODECS_OF[kind]}`, `${tensor.codec} ${tensor.role}`)
    }
    checkSection(tensor)
    offset += tensor.bytes
    tensors.push(tensor)
  }
  if (offset !== payloadBytes)
    throw invalid('payload', `${offset} bytes, the sum of its sections`, payloadBytes)

  const base = object(root.base ?? {}, 'base')
  const compression = object(root.compression ?? {}, 'compression')
  const sources = array(root.sources ?? [], 'sources', MAX_SOURCES)
  return {
    kind,
    method: oneOf(root.method ?? 'full', 'method', ['full', 'lora', 'ia3'] as const),
    tensors,
    base: {
      name: optionalText(base.name, 'base.name'),
      fingerprint: optionalHash(base.fingerprint, 'base.fingerprint'),
      sketch: sketchFrom(base.sketch, targetsOf(tensors).length),
    },
    compression: {
      density: optionalNumber(compression.density, 'compression.density'),
      alpha: optionalNumber(compression.alpha, 'compression.alpha'),
      scale: optionalText(compression.scale, 'compression.scale'),
      threshold: optionalText(compression.threshold, 'compression.threshold'),
      score: optionalText(compression.score, 'compression.score'),
    },
    sources: sources.map((item, i) => {
      const source = object(item, `sources[${i}]`)
      return {
        name: text(source.name, `sources[${i}].name`),
        sha256: optionalHash(source.sha256, `sources[${i}].sha256`),
      }
    }),
    bindings:
      kind === 'base' && root.bindings !== undefined ? bindingsFrom(root.bindings, tensors) : undefined,
    label: optionalText(root.label, 'label'),
    description: optionalText(root.description, 'description'),
    prompt: optionalText(root.prompt, 'prompt'),
    licence: optionalText(root.licence, 'licence'),
    createdWith: optionalText(root.createdWith, 'createdWith'),
  }
}

function tensorFromJson(item: Record<string, unknown>, at: string, offset: number): TritTensor {
  const name = text(item.name, `${at}.name`, MAX_NAME_LENGTH)
  const shape = shapeOf(item.shape, `${at}.shape`, MAX_RANK, MAX_TENSOR_WEIGHTS)
  const common: TensorCommon = {
    name,
    shape,
    role: oneOf(item.role ?? 'delta', `${at}.role`, ['delta', 'loraA', 'loraB', 'ia3'] as const),
    target: item.target === undefined ? name : text(item.target, `${at}.target`, MAX_NAME_LENGTH),
    bytes: integer(item.bytes, `${at}.bytes`, 0, MAX_PAYLOAD_BYTES),
    offset,
  }
  if (item.scaling !== undefined) common.scaling = number(item.scaling, `${at}.scaling`)
  if (item.layout !== undefined) {
    common.layout = oneOf(item.layout, `${at}.layout`, ['linear', 'conv1d', 'conv2d', 'embedding'] as const)
  }
  if (item.feedforward !== undefined) common.feedforward = item.feedforward === true
  const codec = oneOf(item.codec ?? 'ternary', `${at}.codec`, ['ternary', 'dense', 'blocks'] as const)
  const dtype = () => oneOf(item.dtype, `${at}.dtype`, ['f16', 'f32'] as const)
  if (codec === 'dense') return { ...common, codec, dtype: dtype() }
  if (codec === 'blocks') {
    const bits = integer(item.bits, `${at}.bits`, 2, 8)
    if (bits !== 2 && bits !== 4 && bits !== 8) throw invalid(`${at}.bits`, '2, 4 or 8', bits)
    const blockSize = integer(item.blockSize, `${at}.blockSize`, MIN_BLOCK_SIZE, MAX_BLOCK_SIZE)
    if (blockSize % MIN_BLOCK_SIZE !== 0)
      throw invalid(`${at}.blockSize`, `a multiple of ${MIN_BLOCK_SIZE}`, blockSize)
    const blocks: BlocksTensor = { ...common, codec, bits, blockSize, dtype: dtype() }
    if (item.zeroPoints !== undefined)
      blocks.zeroPoints = oneOf(item.zeroPoints, `${at}.zeroPoints`, ['packed', 'float'] as const)
    if (item.transposed !== undefined) blocks.transposed = item.transposed === true
    return blocks
  }
  return {
    ...common,
    codec,
    kept: integer(item.kept, `${at}.kept`, 0, weightsOf(shape)),
    scale: Math.fround(number(item.scale, `${at}.scale`)),
    m: integer(item.m, `${at}.m`, 1, MAX_GOLOMB),
    lengthMin: integer(item.lengthMin, `${at}.lengthMin`, 0, 2 ** MAX_LENGTH_BITS - 1),
    lengthBits: integer(item.lengthBits, `${at}.lengthBits`, 0, MAX_LENGTH_BITS),
  }
}

function shortest(value: number): number {
  const exact = Math.fround(value)
  for (let digits = 6; digits < 9; digits++) {
    const short = Number(exact.toPrecision(digits))
    if (Math.fround(short) === exact) return short
  }
  return Number(exact.toPrecision(9))
}

function toBase64(values: Uint16Array): string {
  let binary = ''
  for (const value of values) binary += String.fromCharCode(value & 0xff, value >>> 8)
  return btoa(binary)
}

function sketchFrom(value: unknown, targets: number): Uint16Array | undefined {
  if (value === undefined) return undefined
  const expected = targets * SKETCH_VALUES
  let binary: string
  try {
    binary = atob(text(value, 'base.sketch', Math.ceil((expected * 2) / 3) * 4))
  } catch (cause) {
    throw new TritswapError('format', 'Cannot read base.sketch: it is not base64 of the right length', {
      cause,
    })
  }
  if (binary.length !== expected * 2) throw invalid('base.sketch', `${expected} values`, binary.length / 2)
  return Uint16Array.from(
    { length: expected },
    (_, i) => binary.charCodeAt(2 * i) | (binary.charCodeAt(2 * i + 1) << 8),
  )
}
