/**
 * The messages between the threads around the fetch workers.
 *
 * ```
 * main thread ── FetchWorkerApi (comlink) ──► fetch worker ── FileMessage (MessagePort) ──► engine worker
 *     FetchPool                                fetchFile                                    receiveFile
 * ```
 *
 * The main thread makes the port of each load and hands both ends on, so no weight bytes pass through it.
 *
 * @module
 */
import type { PackedError } from '../errors.ts'
import type { TritHead } from '../format/head.ts'
import type { TritKind, TritTable } from '../format/table.ts'
import type { RetryPolicy } from '../source/retry.ts'

/** A URL, `hf:owner/repo/path@revision`, a file that the visitor brought, or bytes. */
export type SourceSpec = string | URL | Blob | ArrayBuffer

export interface FetchRequest {
  source: SourceSpec
  /** Absolute URLs of the parts that the file was cut into, and their sizes; `source` then only names the whole. */
  parts?: readonly { url: string; bytes: number }[]
  /** SHA-256 of the head, lower-case hex: with it, the file can be trusted wherever its bytes come from. */
  rootHash?: string
  /** Refuse a file of the other kind. */
  kind?: TritKind
  /** Fetch only the chunks that these tensors lie in; all by default. */
  tensors?: readonly string[]
  /** The file's name in progress events; the source's own name by default. */
  name?: string
}

/** Whether two requests are for the same file, as far as the requests can tell. */
export function isSameFile(a: FetchRequest, b: FetchRequest): boolean {
  if (a.rootHash !== undefined && a.rootHash === b.rootHash) return true
  return typeof a.source === 'string' && a.source === b.source
}

/** Where the time and the bytes of one load went. Times are sums over requests that may overlap, in ms. */
export interface FetchStats {
  /** From the start in the worker until the last chunk was handed over. */
  totalMs: number
  /** Waiting for the network (or the blob). */
  fetchMs: number
  verifyMs: number
  /** Reading and writing the cache. */
  cacheMs: number
  networkBytes: number
  cacheBytes: number
  requests: number
  retries: number
}

/** What the main thread learns about a file; it holds no weights. */
export interface FetchedFile {
  name: string
  rootHash: string
  /** Head and payload. */
  fileBytes: number
  table: Pick<
    TritTable,
    'kind' | 'method' | 'base' | 'compression' | 'label' | 'description' | 'prompt' | 'licence'
  >
  stats: FetchStats
}

/** The shape that transformers.js gives to `progress_callback`, plus `phase`. */
export interface FetchProgress {
  /** The fetcher ends with `done`; `ready` comes from the engine or loader once the file can be used. */
  status: 'initiate' | 'download' | 'progress' | 'done' | 'ready'
  name: string
  file: string
  /** Bytes received so far, of `total`. */
  loaded?: number
  total?: number
  /** Percent, 0–100. */
  progress?: number
  /** Where the bytes come from at the moment. */
  phase?: 'queue' | 'network' | 'cache' | 'memory'
}

/** Settings that every worker of a pool gets with each request: plain data. */
export interface FetchSettings {
  /** Byte budget of the cache; `0` turns it off, undefined lets the browser's quota decide. */
  cacheBudget?: number
  retry?: Partial<Pick<RetryPolicy, 'attempts' | 'baseMs' | 'maxMs'>>
  /** A request is given up and tried again when the server sends nothing for this long. */
  silenceMs?: number
  /** Host of `hf:` names, e.g. a mirror of the Hugging Face Hub; `https://huggingface.co` by default. */
  hub?: string
}

/** The comlink API of a fetch worker. `port` is absent for a prefetch, which only fills the cache. */
export interface FetchWorkerApi {
  fetch(
    request: FetchRequest,
    port: MessagePort | undefined,
    settings: FetchSettings & { priority: 'high' | 'low' },
    signal: AbortSignal,
    onProgress: (progress: FetchProgress) => void,
    onWarning: (message: string) => void,
  ): Promise<FetchedFile>
  /** Drops the chunks in memory: no further load of the same file is waiting. */
  dropChunks(): void
}

/** A verified piece of the payload: one chunk, not aligned to tensors. */
export interface PayloadChunk {
  index: number
  /** In bytes from the start of the payload. */
  offset: number
  bytes: Uint8Array<ArrayBuffer>
}

/** Fetch worker → engine worker: one `head`, then every wanted chunk once in any order, then `end` or `error`. */
export type FileMessage =
  | { type: 'head'; name: string; head: TritHead }
  | { type: 'chunk'; index: number; offset: number; bytes: Uint8Array<ArrayBuffer> }
  | { type: 'end' }
  | { type: 'error'; error: PackedError }

/** Engine worker → fetch worker. `taken` makes room for one more chunk in the window, `cancel` ends the load. */
export type ReceiverMessage = { type: 'taken' } | { type: 'cancel' }

/** Chunks on their way to the receiver, at most; with the one that is being filled that makes three in memory. */
export const WINDOW_CHUNKS = 2
