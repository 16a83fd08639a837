/**
 * What the threads around the fetch workers say to each other.
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

/** A URL, `hf:owner/repo/path@revision`, a file of the visitor, or bytes. */
export type SourceSpec = string | URL | Blob | ArrayBuffer

export interface FetchRequest {
  source: SourceSpec
  /** SHA-256 of the head, lower-case hex: whoever knows it trusts the file, wherever it comes from. */
  rootHash?: string
  /** Refuse a file of the other kind. */
  kind?: TritKind
  /** Fetch only the chunks that these tensors lie in; all by default. */
  tensors?: readonly string[]
  /** For progress events: what people call it. By default the source's own name. */
  name?: string
}

/** Whether two requests are for the same file, as far as that shows before it is there. */
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

/** What the main thread learns of a file. No weights in it. */
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
  /** `ready` is for whoever makes the file usable; the fetcher ends with `done`. */
  status: 'initiate' | 'download' | 'progress' | 'done' | 'ready'
  name: string
  file: string
  /** Bytes that are verified or on their way, of `total`. */
  loaded?: number
  total?: number
  /** Percent, 0–100. */
  progress?: number
  /** Where the bytes come from right now. */
  phase?: 'queue' | 'network' | 'cache' | 'memory'
}

/** Settings that every worker of a pool gets with each request: plain data. */
export interface FetchSettings {
  /** Byte budget of the cache; `0` turns it off, undefined lets the browser's quota decide. */
  cacheBudget?: number
  retry?: Partial<Pick<RetryPolicy, 'attempts' | 'baseMs' | 'maxMs'>>
  /** A request that sends nothing for so long is given up and tried again. */
  silenceMs?: number
  /** Where `hf:` names lead: a mirror of the Hugging Face Hub, `https://huggingface.co` by default. */
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
  /** Lets go of chunks that were kept for a later load of the same file: there will be none. */
  forget(): void
}

/** A verified piece of the payload: one chunk, not aligned to tensors. */
export interface PayloadChunk {
  index: number
  /** In the payload. */
  offset: number
  bytes: Uint8Array<ArrayBuffer>
}

/** Fetch worker → engine worker: one `head`, then every wanted chunk once in any order, then `end` or `error`. */
export type FileMessage =
  | { type: 'head'; name: string; head: TritHead }
  | { type: 'chunk'; index: number; offset: number; bytes: Uint8Array<ArrayBuffer> }
  | { type: 'end' }
  | { type: 'error'; error: PackedError }

/** Engine worker → fetch worker. `taken` frees a place in the window, `cancel` ends the load. */
export type ReceiverMessage = { type: 'taken' } | { type: 'cancel' }

/** Chunks on their way to the receiver, at most. With the one being filled that makes three. */
export const WINDOW_CHUNKS = 2
