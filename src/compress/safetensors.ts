/**
 * Safetensors files (https://huggingface.co/docs/safetensors): u64 header length, a JSON header, then the tensors
 * without gaps. Read by random access, so a file may be larger than memory.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { SAFETENSORS_BYTES } from '../format/dtype.ts'
import { MAX_NAME_LENGTH, MAX_RANK, MAX_TENSORS } from '../format/limits.ts'
import { parseJsonObject } from '../source/json.ts'
import { MAX_SAFETENSORS_HEAD_BYTES } from '../source/limits.ts'
import { mistakenFile, TELLING_BYTES } from '../source/mistaken_file.ts'
import type { ByteSource, ReadOptions } from '../source/source.ts'
import { decodeFloats } from './dtypes.ts'

/** A tensor has an object, a dtype, a shape and offsets: 6 values, and one for each dimension. */
const HEADER_LIMITS = { depth: 4, values: MAX_TENSORS * (6 + MAX_RANK) }

/** The header's key for texts about the file. */
const METADATA = '__metadata__'

/** A tensor in its file: none of its values are in memory. */
export interface StoredTensor {
  name: string
  /** `F32`, `F16`, `BF16`, `I8`, … */
  dtype: string
  shape: readonly number[]
  /** Product of the shape. */
  weights: number
  source: ByteSource
  /** First byte in the source. */
  offset: number
  /** Length in the source. */
  bytes: number
}

export interface SafetensorsFile {
  tensors: StoredTensor[]
  metadata: Record<string, string>
}

/**
 * Reads the header of a safetensors file; tensors come in the order of their data.
 * @throws {TritswapError} `format` when the header is not one, or does not describe exactly the bytes that follow
 */
export async function readSafetensors(source: ByteSource, options?: ReadOptions): Promise<SafetensorsFile> {
  const { name } = source
  const size = await source.size(options)
  if (size === undefined) throw notSafetensors(name, 'its size is not known')
  if (size < 8) throw notSafetensors(name, `it has ${size} bytes`)
  const mistaken = mistakenFile(await source.read(0, Math.min(size, TELLING_BYTES), options))
  if (mistaken !== undefined) throw notSafetensors(name, mistaken)
  const prefix = await source.read(0, 8, options)
  const headerBytes = Number(new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true))
  if (headerBytes > MAX_SAFETENSORS_HEAD_BYTES || 8 + headerBytes > size) {
    throw notSafetensors(name, `it promises a header of ${headerBytes} bytes and has ${size}`)
  }
  const header = parseJsonObject(
    await source.read(8, headerBytes, options),
    `the header of ${name}`,
    HEADER_LIMITS,
  )
  const data = 8 + headerBytes
  const tensors: StoredTensor[] = []
  const metadata: Record<string, string> = {}
  for (const [key, value] of Object.entries(header)) {
    if (key === METADATA) {
      if (typeof value !== 'object') throw notSafetensors(name, `its ${METADATA} is a ${typeof value}`)
      for (const [k, v] of Object.entries(value ?? {})) if (typeof v === 'string') metadata[k] = v
    } else {
      tensors.push(storedTensor(key, value, source, data))
    }
  }
  if (tensors.length > MAX_TENSORS)
    throw notSafetensors(name, `it has ${tensors.length} tensors, over ${MAX_TENSORS}`)
  tensors.sort((a, b) => a.offset - b.offset || a.bytes - b.bytes)
  // Without gaps and overlaps, as the reference implementation demands: a name given twice leaves a gap.
  let end = data
  for (const tensor of tensors) {
    if (tensor.offset !== end) {
      throw notSafetensors(
        name,
        `${tensor.name} starts at byte ${tensor.offset - data}, not at ${end - data}`,
      )
    }
    end += tensor.bytes
  }
  if (end !== size)
    throw notSafetensors(name, `its tensors end at byte ${end} of ${size}; it is truncated or damaged`)
  return { tensors, metadata }
}

function storedTensor(name: string, value: unknown, source: ByteSource, data: number): StoredTensor {
  const { dtype, shape, data_offsets: range } = (value ?? {}) as Record<string, unknown>
  const bad = (what: string) => notSafetensors(source.name, `${name.slice(0, 80)} has ${what}`)
  if (name === '') throw notSafetensors(source.name, 'it has a tensor without a name')
  if (name.length > MAX_NAME_LENGTH) throw bad(`a name of ${name.length} characters, over ${MAX_NAME_LENGTH}`)
  if (typeof dtype !== 'string' || !Object.hasOwn(SAFETENSORS_BYTES, dtype)) {
    throw bad(`dtype ${JSON.stringify(dtype)?.slice(0, 20)}`)
  }
  if (!isSizes(shape) || shape.length > MAX_RANK) throw bad(`shape ${JSON.stringify(shape)?.slice(0, 80)}`)
  if (!isSizes(range) || range.length !== 2 || range[1] < range[0]) {
    throw bad(`data_offsets ${JSON.stringify(range)?.slice(0, 80)}`)
  }
  const weights = shape.reduce((product, size) => product * size, 1)
  const bytes = range[1] - range[0]
  if (bytes !== weights * SAFETENSORS_BYTES[dtype]) {
    throw bad(`${bytes} bytes, and shape [${shape}] of ${dtype} needs ${weights * SAFETENSORS_BYTES[dtype]}`)
  }
  return { name, dtype, shape, weights, source, offset: data + range[0], bytes }
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0)
}

/** Elements `[from, from + count)` of a tensor in flat order, as stored. */
export async function readBytes(
  tensor: StoredTensor,
  from = 0,
  count = tensor.weights - from,
  options?: ReadOptions,
): Promise<Uint8Array<ArrayBuffer>> {
  const size = SAFETENSORS_BYTES[tensor.dtype]
  return tensor.source.read(tensor.offset + from * size, count * size, options)
}

/** The same as f32. */
export async function readFloats(
  tensor: StoredTensor,
  from = 0,
  count = tensor.weights - from,
  options?: ReadOptions,
): Promise<Float32Array<ArrayBuffer>> {
  const bytes = await readBytes(tensor, from, count, options)
  const floats = new Float32Array(count)
  decodeFloats(bytes, tensor.dtype, tensor.name, floats)
  return floats
}

function notSafetensors(name: string, why: string, cause?: unknown): TritswapError {
  return new TritswapError('format', `Cannot read ${name} as safetensors: ${why}`, {
    fields: { name },
    cause,
  })
}

/** A tensor of a file to be written. */
export interface TensorToWrite {
  name: string
  dtype: 'F32' | 'F16' | 'BF16' | 'I8' | 'U16' | 'I32' | 'I64' | 'BOOL'
  shape: readonly number[]
}

/**
 * The head of a safetensors file (length and header, padded so that the data is aligned to 8 bytes); the tensors'
 * bytes follow in the order given.
 * @throws {TritswapError} `format` for names that the format keeps for itself
 */
export function safetensorsHead(
  tensors: readonly TensorToWrite[],
  metadata: Record<string, string> = {},
): Uint8Array<ArrayBuffer> {
  const unnamed = tensors.find(({ name }) => name === '' || name === METADATA)
  if (unnamed !== undefined) {
    throw new TritswapError(
      'format',
      `Cannot write a tensor named "${unnamed.name}": safetensors has no such name`,
    )
  }
  let end = 0
  const entries = tensors.map(({ name, dtype, shape }) => {
    const start = end
    end += shape.reduce((product, size) => product * size, 1) * SAFETENSORS_BYTES[dtype]
    return [name, { dtype, shape, data_offsets: [start, end] }] as const
  })
  const json = new TextEncoder().encode(
    JSON.stringify({ [METADATA]: metadata, ...Object.fromEntries(entries) }),
  )
  const bytes = new Uint8Array(8 + Math.ceil(json.length / 8) * 8).fill(0x20)
  new DataView(bytes.buffer).setBigUint64(0, BigInt(bytes.length - 8), true)
  bytes.set(json, 8)
  return bytes
}
