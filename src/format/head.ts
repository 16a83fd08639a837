/**
 * The head of a `.trit` file: prefix, table and chunk hashes. Its SHA-256 is the file's root hash, and it holds
 * the hash of every chunk of the payload, so who trusts the root hash can trust each chunk as it arrives.
 *
 * ```
 *  0  "TRIT"               16  payload bytes, u64        32            table, deflate-raw JSON
 *  4  u16 version          24  chunk count, u32          32 + table    chunk count × 32 bytes SHA-256
 *  6  u16 log2 chunk size  28  u32 0                     head bytes    payload
 *  8  u32 table bytes
 * 12  u32 table bytes inflated                           all little-endian
 * ```
 *
 * @module
 */
import { deflateSync } from 'fflate'
import { isTritswapError, TritswapError } from '../errors.ts'
import { mistakenFile } from '../source/mistaken_file.ts'
import type { ByteSource, ReadOptions } from '../source/source.ts'
import {
  MAGIC,
  MAX_CHUNK_LOG2,
  MAX_CHUNKS,
  MAX_PAYLOAD_BYTES,
  MAX_TABLE_BYTES,
  MAX_TABLE_RATIO,
  MIN_CHUNK_LOG2,
  PREFIX_BYTES,
  SMALL_TABLE_BYTES,
  VERSION,
} from './limits.ts'
import { sameBytes, sha256, toHex } from './sha256.ts'
import { type NewTensor, type TritTable, tableFromJson, tableToJson } from './table.ts'

export interface Prefix {
  chunkBytes: number
  chunks: number
  tableBytes: number
  tableInflated: number
  payloadBytes: number
  /** Prefix, table and hashes: where the payload starts. */
  headBytes: number
}

export interface TritHead extends Prefix {
  table: TritTable
  /** SHA-256 of the head, lower-case hex. */
  rootHash: string
  /** 32 bytes a chunk. */
  chunkHashes: Uint8Array<ArrayBuffer>
  /** The head as stored, for caches and for handing on. */
  bytes: Uint8Array<ArrayBuffer>
}

/**
 * Sizes from the first {@link PREFIX_BYTES} bytes.
 * @throws {TritswapError} `format` if this is not a `.trit` file of a version we read, `limit` for absurd sizes.
 */
export function parsePrefix(bytes: Uint8Array, name: string): Prefix {
  if (bytes.byteLength < PREFIX_BYTES) throw notTrit(name, `it has ${bytes.byteLength} bytes`)
  const view = new DataView(bytes.buffer, bytes.byteOffset, PREFIX_BYTES)
  if (view.getUint32(0, true) !== MAGIC) {
    throw notTrit(
      name,
      mistakenFile(bytes) ?? `it starts with ${toHex(bytes.subarray(0, 4))}, not with "TRIT"`,
    )
  }
  const version = view.getUint16(4, true)
  if (version !== VERSION) {
    throw notTrit(
      name,
      `it has version ${version} and this program reads version ${VERSION}; update tritswap`,
    )
  }
  const chunkLog2 = view.getUint16(6, true)
  if (chunkLog2 < MIN_CHUNK_LOG2 || chunkLog2 > MAX_CHUNK_LOG2) {
    throw notTrit(name, `its chunk size is 2^${chunkLog2}, not 2^${MIN_CHUNK_LOG2} to 2^${MAX_CHUNK_LOG2}`)
  }
  const reserved = view.getUint32(28, true)
  if (reserved !== 0) throw notTrit(name, `its reserved field is ${reserved}, not 0`)
  const tableBytes = view.getUint32(8, true)
  const tableInflated = view.getUint32(12, true)
  const payloadBytes = view.getUint32(16, true) + view.getUint32(20, true) * 2 ** 32
  const chunks = view.getUint32(24, true)
  const chunkBytes = 2 ** chunkLog2
  for (const [field, found, limit] of [
    ['table', tableBytes, MAX_TABLE_BYTES],
    ['inflated table', tableInflated, inflatedLimit(tableBytes)],
    ['payload', payloadBytes, MAX_PAYLOAD_BYTES],
    ['chunk list', 32 * chunks, 32 * MAX_CHUNKS],
  ] as const) {
    if (found > limit) {
      throw new TritswapError(
        'limit',
        `Cannot read ${name}: its ${field} of ${found} bytes is over the limit of ${limit}`,
        {
          fields: { name, field, found, limit },
        },
      )
    }
  }
  if (chunks !== Math.ceil(payloadBytes / chunkBytes)) {
    throw notTrit(name, `${chunks} chunks of ${chunkBytes} bytes do not make ${payloadBytes}`)
  }
  return {
    chunkBytes,
    chunks,
    tableBytes,
    tableInflated,
    payloadBytes,
    headBytes: PREFIX_BYTES + tableBytes + 32 * chunks,
  }
}

/** What a table of `stored` bytes may inflate to. */
function inflatedLimit(stored: number): number {
  return Math.min(MAX_TABLE_BYTES, Math.max(SMALL_TABLE_BYTES, MAX_TABLE_RATIO * stored))
}

/**
 * A whole head from its bytes, checked against `rootHash` before anything in it is used.
 * @throws {TritswapError} `integrity`, `format` or `limit`
 */
export async function parseHead(
  bytes: Uint8Array<ArrayBuffer>,
  name: string,
  rootHash?: string,
): Promise<TritHead> {
  const prefix = parsePrefix(bytes, name)
  if (bytes.byteLength < prefix.headBytes)
    throw notTrit(name, `its head has ${bytes.byteLength} of ${prefix.headBytes} bytes`)
  const head = bytes.slice(0, prefix.headBytes)
  const found = toHex(await sha256(head))
  if (rootHash !== undefined && rootHash !== found) {
    throw new TritswapError(
      'integrity',
      `Cannot trust ${name}: its root hash should be ${rootHash} and is ${found}; the file was changed, or the registry is out of date`,
      { fields: { name, expected: rootHash, found } },
    )
  }
  const table = head.subarray(PREFIX_BYTES, PREFIX_BYTES + prefix.tableBytes)
  try {
    const json = new TextDecoder('utf-8', { fatal: true }).decode(await inflate(table, prefix.tableInflated))
    return {
      ...prefix,
      table: tableFromJson(json, prefix.payloadBytes),
      rootHash: found,
      chunkHashes: head.slice(PREFIX_BYTES + prefix.tableBytes),
      bytes: head,
    }
  } catch (cause) {
    if (isTritswapError(cause)) {
      throw new TritswapError(cause.tag, `${name}: ${cause.message}`, {
        fields: { name, ...cause.fields },
        cause,
      })
    }
    throw new TritswapError('format', `Cannot read the table of ${name}: it does not inflate to valid text`, {
      cause,
    })
  }
}

/** Reads and checks the head of a source: two reads, no more bytes than the head has. */
export async function readHead(
  source: ByteSource,
  options: ReadOptions & { rootHash?: string } = {},
): Promise<TritHead> {
  const first = await source.read(0, PREFIX_BYTES, options)
  const { headBytes } = parsePrefix(first, source.name)
  const rest = await source.read(PREFIX_BYTES, headBytes - PREFIX_BYTES, options)
  const bytes = new Uint8Array(headBytes)
  bytes.set(first)
  bytes.set(rest, PREFIX_BYTES)
  return parseHead(bytes, source.name, options.rootHash)
}

/** Bytes of chunk `index`; the last one is shorter. */
export function chunkLength(prefix: Prefix, index: number): number {
  return Math.min(prefix.chunkBytes, prefix.payloadBytes - index * prefix.chunkBytes)
}

/** @throws {TritswapError} `integrity` unless the bytes are those that the head promises for chunk `index`. */
export async function verifyChunk(
  head: Pick<TritHead, 'chunkHashes'>,
  index: number,
  bytes: Uint8Array<ArrayBuffer>,
  name: string,
): Promise<void> {
  const expected = head.chunkHashes.subarray(index * 32, index * 32 + 32)
  const found = await sha256(bytes)
  if (!sameBytes(expected, found)) {
    throw new TritswapError(
      'integrity',
      `Cannot trust ${name}: chunk ${index} does not have the hash its head promises`,
      {
        fields: { name, chunk: index, expected: toHex(expected), found: toHex(found) },
      },
    )
  }
}

/**
 * The bytes of a head. The same table and hashes give the same bytes on every platform.
 * @throws {TritswapError} `input` for a table that a reader would refuse
 */
export function buildHead(
  table: Omit<TritTable, 'tensors'> & { tensors: readonly NewTensor[] },
  chunkLog2: number,
  payloadBytes: number,
  chunkHashes: Uint8Array,
): Uint8Array<ArrayBuffer> {
  const text = tableToJson(table)
  try {
    tableFromJson(text, payloadBytes)
  } catch (cause) {
    const why = isTritswapError(cause) ? cause.message : String(cause)
    throw new TritswapError('input', `Cannot write a table that no reader takes: ${why}`, { cause })
  }
  const json = new TextEncoder().encode(text)
  // fflate rather than zlib: its output does not change with the version of Node or browser.
  const deflated = deflateSync(json, { level: 9 })
  const bytes = new Uint8Array(PREFIX_BYTES + deflated.length + chunkHashes.length)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, MAGIC, true)
  view.setUint16(4, VERSION, true)
  view.setUint16(6, chunkLog2, true)
  view.setUint32(8, deflated.length, true)
  view.setUint32(12, json.length, true)
  view.setUint32(16, payloadBytes % 2 ** 32, true)
  view.setUint32(20, Math.floor(payloadBytes / 2 ** 32), true)
  view.setUint32(24, chunkHashes.length / 32, true)
  bytes.set(deflated, PREFIX_BYTES)
  bytes.set(chunkHashes, PREFIX_BYTES + deflated.length)
  parsePrefix(bytes, 'the file to write')
  return bytes
}

/** Inflates to exactly `size` bytes and stops as soon as there are more. */
async function inflate(bytes: Uint8Array<ArrayBuffer>, size: number): Promise<Uint8Array> {
  const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate-raw')).getReader()
  const inflated = new Uint8Array(size)
  let filled = 0
  for (;;) {
    const { done, value } = await reader.read()
    if (done) break
    if (filled + value.length > size) {
      await reader.cancel()
      throw new TritswapError(
        'format',
        `Cannot read the table: it inflates to more than the ${size} bytes declared`,
      )
    }
    inflated.set(value, filled)
    filled += value.length
  }
  if (filled !== size)
    throw new TritswapError('format', `Cannot read the table: ${filled} bytes instead of ${size}`)
  return inflated
}

function notTrit(name: string, why: string): TritswapError {
  return new TritswapError('format', `Cannot read ${name} as a .trit file: ${why}`, { fields: { name } })
}
