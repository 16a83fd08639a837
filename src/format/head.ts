/**
 * The head of a `.trit` file: prefix, table (JSON, deflated), and 32 bytes of SHA-256 for each chunk of the payload,
 * which follows. The SHA-256 of the head is the file's root hash, so a reader that trusts the root hash can trust each
 * chunk as it arrives.
 *
 * @module
 */
import { deflateSync } from 'fflate'
import { isTritswapError, TritswapError } from '../errors.ts'
import type { ByteSource, ReadOptions } from '../source/source.ts'
import { PREFIX_BYTES } from './limits.ts'
import { notTrit, type Prefix, parsePrefix, writePrefix } from './prefix.ts'
import { sameBytes, sha256, toHex } from './sha256.ts'
import { type NewTensor, type TritTable, tableFromJson, tableToJson } from './table.ts'

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
  const prefix = writePrefix({
    chunkLog2,
    payloadBytes,
    chunks: chunkHashes.length / 32,
    tableBytes: deflated.length,
    tableInflated: json.length,
  })
  const bytes = new Uint8Array(prefix.length + deflated.length + chunkHashes.length)
  bytes.set(prefix)
  bytes.set(deflated, prefix.length)
  bytes.set(chunkHashes, prefix.length + deflated.length)
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
