/**
 * The first 32 bytes of a `.trit` file: how long everything is that follows. All numbers are little-endian.
 *
 * ```
 *  0  "TRIT"               8  u32 table bytes             24  u32 chunk count
 *  4  u16 version         12  u32 table bytes inflated    28  u32 0
 *  6  u16 log2 chunk size 16  u64 payload bytes
 * ```
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { mistakenFile } from '../source/mistaken_file.ts'
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
import { toHex } from './sha256.ts'

export interface Prefix {
  chunkBytes: number
  chunks: number
  tableBytes: number
  tableInflated: number
  payloadBytes: number
  /** Prefix, table and hashes: where the payload starts. */
  headBytes: number
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
        { fields: { name, field, found, limit } },
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
 * The prefix of a file to write.
 * @throws {TritswapError} `format` or `limit` for sizes that a reader would refuse
 */
export function writePrefix(
  sizes: Pick<Prefix, 'payloadBytes' | 'chunks' | 'tableBytes' | 'tableInflated'> & { chunkLog2: number },
): Uint8Array<ArrayBuffer> {
  const { chunkLog2, payloadBytes, chunks, tableBytes, tableInflated } = sizes
  const bytes = new Uint8Array(PREFIX_BYTES)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, MAGIC, true)
  view.setUint16(4, VERSION, true)
  view.setUint16(6, chunkLog2, true)
  view.setUint32(8, tableBytes, true)
  view.setUint32(12, tableInflated, true)
  view.setUint32(16, payloadBytes % 2 ** 32, true)
  view.setUint32(20, Math.floor(payloadBytes / 2 ** 32), true)
  view.setUint32(24, chunks, true)
  parsePrefix(bytes, 'the file to write')
  return bytes
}

export function notTrit(name: string, why: string): TritswapError {
  return new TritswapError('format', `Cannot read ${name} as a .trit file: ${why}`, { fields: { name } })
}
