/**
 * GGUF files (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): a magic, counts, metadata, a list of tensors,
 * then their data. Read by random access: metadata that is not asked for, such as the vocabulary, is stepped over.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { MAX_NAME_LENGTH, MAX_TENSOR_WEIGHTS, MAX_TENSORS } from '../format/limits.ts'
import type { ByteSource } from '../source/source.ts'

/** "GGUF" */
const MAGIC = 0x46554747
const VERSIONS = [2, 3]
const MAX_METADATA = 65_536
/** Arrays of arrays are allowed, and not in use. */
const MAX_DEPTH = 4
const MAX_DIMENSIONS = 4
const DEFAULT_ALIGNMENT = 32
const WINDOW_BYTES = 1 << 18

/** Weights of a block and its bytes, by the type of a tensor: those whose values can be taken over as they are. */
export const GGUF_TYPES = {
  F32: { id: 0, weights: 1, bytes: 4 },
  F16: { id: 1, weights: 1, bytes: 2 },
  Q4_0: { id: 2, weights: 32, bytes: 18 },
  Q4_1: { id: 3, weights: 32, bytes: 20 },
  Q8_0: { id: 8, weights: 32, bytes: 34 },
  BF16: { id: 30, weights: 1, bytes: 2 },
} as const

export type GgufType = keyof typeof GGUF_TYPES

const TYPE_OF_ID = new Map<number, GgufType>(
  Object.entries(GGUF_TYPES).map(([type, { id }]) => [id, type as GgufType]),
)

export interface GgufTensor {
  name: string
  type: GgufType
  /** Rows first, as checkpoints have it; GGUF itself lists the dimensions from the innermost. */
  shape: readonly number[]
  source: ByteSource
  /** First byte in the source. */
  offset: number
  bytes: number
}

export interface GgufFile {
  name: string
  /** Numbers, strings and booleans among the metadata that were asked for. */
  metadata: ReadonlyMap<string, string | number | boolean>
  tensors: GgufTensor[]
}

/** Whether a file starts as a GGUF does. */
export async function isGguf(source: ByteSource): Promise<boolean> {
  const size = (await source.size()) ?? 0
  if (size < 4) return false
  const { buffer, byteOffset } = await source.read(0, 4)
  return new DataView(buffer, byteOffset, 4).getUint32(0, true) === MAGIC
}

/**
 * Reads the front of a GGUF file.
 * @param wanted - keys of metadata to keep
 * @throws {TritswapError} `format` where it contradicts itself or its size, `limit`, `unsupported` for a tensor of another
 * type than {@link GGUF_TYPES}
 */
export async function readGguf(source: ByteSource, wanted: (key: string) => boolean): Promise<GgufFile> {
  const cursor = new Cursor(source, await source.size())
  if ((await cursor.u32()) !== MAGIC) throw cursor.bad('it does not start with "GGUF"')
  const version = await cursor.u32()
  if (!VERSIONS.includes(version))
    throw cursor.bad(`its version is ${version}, and ${VERSIONS.join(' or ')} can be read`)
  const tensorCount = await cursor.count(MAX_TENSORS, 'tensors')
  const metadataCount = await cursor.count(MAX_METADATA, 'metadata entries')
  const metadata = new Map<string, string | number | boolean>()
  let alignment = DEFAULT_ALIGNMENT
  for (let i = 0; i < metadataCount; i++) {
    const key = await cursor.text()
    const value = await cursor.value(wanted(key) || key === ALIGNMENT)
    if (key === ALIGNMENT && value !== undefined) alignment = alignmentFrom(value, cursor)
    if (value !== undefined && wanted(key)) metadata.set(key, value)
  }
  const listed: Omit<GgufTensor, 'source'>[] = []
  for (let i = 0; i < tensorCount; i++) listed.push(await cursor.tensor())
  const data = Math.ceil(cursor.at / alignment) * alignment
  const names = new Set<string>()
  const tensors = listed.map((tensor): GgufTensor => {
    const { name, offset, bytes } = tensor
    if (names.has(name)) throw cursor.bad(`it has two tensors ${name.slice(0, 80)}`)
    names.add(name)
    if (offset % alignment !== 0 || data + offset + bytes > cursor.size)
      throw cursor.bad(
        `${name.slice(0, 80)} lies at byte ${offset} of its data, outside the file or not aligned`,
      )
    return { ...tensor, source, offset: data + offset }
  })
  return { name: source.name, metadata, tensors }
}

const ALIGNMENT = 'general.alignment'

function alignmentFrom(value: unknown, cursor: Cursor): number {
  if (typeof value === 'number' && value >= 8 && value <= 1 << 20 && value % 8 === 0) return value
  throw cursor.bad(`its alignment is ${value}`)
}

/** Bytes of a metadata value, by its type; strings and arrays have their own. */
const VALUE_BYTES: Readonly<Record<number, number>> = {
  0: 1,
  1: 1,
  2: 2,
  3: 2,
  4: 4,
  5: 4,
  6: 4,
  7: 1,
  10: 8,
  11: 8,
  12: 8,
}
const BOOL = 7
const STRING = 8
const ARRAY = 9

const READERS: Readonly<Record<number, (view: DataView) => number | boolean>> = {
  0: (view) => view.getUint8(0),
  1: (view) => view.getInt8(0),
  2: (view) => view.getUint16(0, true),
  3: (view) => view.getInt16(0, true),
  4: (view) => view.getUint32(0, true),
  5: (view) => view.getInt32(0, true),
  6: (view) => view.getFloat32(0, true),
  [BOOL]: (view) => view.getUint8(0) !== 0,
  10: (view) => Number(view.getBigUint64(0, true)),
  11: (view) => Number(view.getBigInt64(0, true)),
  12: (view) => view.getFloat64(0, true),
}

/** Steps through the front of a file. Every length is compared with the bytes that are left before it is used. */
class Cursor {
  at = 0
  readonly size: number
  readonly #source: ByteSource
  #window = new Uint8Array()
  #windowAt = 0

  constructor(source: ByteSource, size: number | undefined) {
    this.#source = source
    if (size === undefined) throw this.bad('its size is not known')
    this.size = size
  }

  bad(why: string): TritswapError {
    const { name } = this.#source
    return new TritswapError('format', `Cannot read ${name} as GGUF: ${why}`, { fields: { name } })
  }

  async u32(): Promise<number> {
    return (await this.#take(4)).getUint32(0, true)
  }

  /** A number of things that take a byte each at least. */
  async count(most: number, what: string): Promise<number> {
    const count = await this.#length()
    if (count <= most) return count
    throw new TritswapError('limit', `Cannot read ${this.#source.name}: ${count} ${what} are over ${most}`, {
      fields: { name: this.#source.name, [what]: count, limit: most },
    })
  }

  async text(most = MAX_NAME_LENGTH): Promise<string> {
    const length = await this.#length()
    if (length > most) throw this.bad(`it has a name of ${length} bytes, over ${most}`)
    const { buffer, byteOffset } = await this.#take(length)
    return new TextDecoder().decode(new Uint8Array(buffer, byteOffset, length))
  }

  /** A metadata value; undefined if it is not wanted or an array. */
  async value(isWanted: boolean): Promise<string | number | boolean | undefined> {
    const type = await this.u32()
    if (!isWanted || type === ARRAY || (type === STRING && !(await this.#isShortText()))) {
      await this.#skip(type, 1, 0)
      return undefined
    }
    if (type === STRING) return this.text(MAX_TEXT_BYTES)
    return READERS[type](await this.#take(this.#valueBytes(type)))
  }

  async tensor(): Promise<Omit<GgufTensor, 'source'>> {
    const name = await this.text()
    const bad = (why: string) => this.bad(`${name.slice(0, 80)} ${why}`)
    const dimensions = await this.u32()
    if (dimensions < 1 || dimensions > MAX_DIMENSIONS) throw bad(`has ${dimensions} dimensions`)
    const shape: number[] = []
    for (let i = 0; i < dimensions; i++) shape.unshift(await this.#u64())
    const weights = shape.reduce((product, size) => product * size, 1)
    if (shape.some((size) => size < 1) || weights > MAX_TENSOR_WEIGHTS) throw bad(`has the shape [${shape}]`)
    const id = await this.u32()
    const offset = await this.#u64()
    const type = TYPE_OF_ID.get(id)
    if (type === undefined) {
      throw new TritswapError(
        'unsupported',
        `Cannot take the weights of ${this.#source.name}: ${name.slice(0, 80)} is of ggml type ${id}, and only ${Object.keys(GGUF_TYPES).join(', ')} can be kept as they are; convert the model to one of these, or prepare it without --weights`,
        { fields: { name: this.#source.name, tensor: name, type: id } },
      )
    }
    const block = GGUF_TYPES[type]
    if (shape[shape.length - 1] % block.weights !== 0)
      throw bad(`has rows of ${shape.at(-1)} weights in ${type}`)
    return { name, type, shape, offset, bytes: (weights / block.weights) * block.bytes }
  }

  /** Steps over `count` values of a type. */
  async #skip(type: number, count: number, depth: number): Promise<void> {
    if (depth > MAX_DEPTH) throw this.bad('its arrays are nested too deep')
    if (type === STRING) {
      for (let i = 0; i < count; i++) this.#advance(await this.#length())
    } else if (type === ARRAY) {
      for (let i = 0; i < count; i++) {
        const inner = await this.u32()
        await this.#skip(inner, await this.#length(), depth + 1)
      }
    } else {
      this.#advance(count * this.#valueBytes(type))
    }
  }

  #valueBytes(type: number): number {
    const bytes = VALUE_BYTES[type]
    if (bytes === undefined) throw this.bad(`its metadata has a value of type ${type}`)
    return bytes
  }

  async #isShortText(): Promise<boolean> {
    const length = await this.#length()
    this.at -= 8
    return length <= MAX_TEXT_BYTES
  }

  /** A u64 that counts bytes, or things of one byte at least, that follow. */
  async #length(): Promise<number> {
    const length = await this.#u64()
    if (length > this.size - this.at)
      throw this.bad(`it promises ${length} bytes at byte ${this.at} of ${this.size}`)
    return length
  }

  async #u64(): Promise<number> {
    return Number((await this.#take(8)).getBigUint64(0, true))
  }

  #advance(bytes: number): void {
    if (bytes > this.size - this.at) throw this.bad(`it ends at byte ${this.size}, before its metadata does`)
    this.at += bytes
  }

  async #take(bytes: number): Promise<DataView> {
    const start = this.at
    this.#advance(bytes)
    if (start < this.#windowAt || this.at > this.#windowAt + this.#window.length) {
      this.#window = await this.#source.read(
        start,
        Math.min(Math.max(bytes, WINDOW_BYTES), this.size - start),
      )
      this.#windowAt = start
    }
    const { buffer, byteOffset } = this.#window
    return new DataView(buffer, byteOffset + start - this.#windowAt, bytes)
  }
}

/** Longer texts, such as chat templates of tools, are stepped over. */
const MAX_TEXT_BYTES = 1 << 16
