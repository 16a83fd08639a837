import { abortError, isAbortError, isTritswapError, TritswapError } from '../errors.ts'
import { chunkLength, parseHead, readHead, type TritHead, verifyChunk } from '../format/head.ts'
import { chunkRanges, type FetchRange, planFetch } from '../format/plan.ts'
import type { ChunkCache } from '../source/cache.ts'
import type { HttpOptions, Meter } from '../source/http.ts'
import { openWhole } from '../source/open.ts'
import { type RetryPolicy, withRetry } from '../source/retry.ts'
import type { ByteSource, ReadOptions } from '../source/source.ts'
import { type StreamedSource, withStream } from '../source/stream.ts'
import { LocalChunks } from './local_chunks.ts'
import type { MemoryChunks } from './memory_chunks.ts'
import { INTERVAL_MS, progressReporter } from './progress.ts'
import type { FetchedFile, FetchProgress, FetchRequest, FetchStats, PayloadChunk } from './protocol.ts'

/** Where a file goes. */
export interface ChunkSink {
  head(name: string, head: TritHead): void
  /** Takes ownership of the bytes, once there is room for them. */
  chunk(chunk: PayloadChunk): Promise<void>
  /** There are no more chunks, and nothing can fail any more; copies may still be on their way into the cache. */
  end(): void
}

export interface FetchContext {
  /** Absent for a prefetch, which only fills the cache. */
  sink?: ChunkSink
  cache?: ChunkCache
  /** Takes the chunks that the cache does not. */
  memory?: MemoryChunks
  signal?: AbortSignal
  priority?: 'high' | 'low'
  retry?: Partial<RetryPolicy>
  http?: HttpOptions
  onProgress?(progress: FetchProgress): void
  onWarning?(message: string): void
}

/** Chunks of one file in work at a time, each with its own request or cache look-up: bounds the memory of a worker. */
const LANES = 3

/**
 * Loads a file: its head, then every wanted chunk from wherever it is. Each chunk is verified before it goes to the
 * sink or into the cache. A whole file costs one request the first time. Once cached it costs none, or one for the head
 * if the request has no root hash to tell that the file is still the same.
 *
 * @throws {TritswapError} `network`, `integrity`, `format`, `limit`; `input` for a file of another kind
 */
export function fetchFile(request: FetchRequest, context: FetchContext = {}): Promise<FetchedFile> {
  return new FileFetch(request, context).run()
}

class FileFetch {
  readonly #request: FetchRequest
  readonly #context: FetchContext
  readonly #cache: ChunkCache | undefined
  readonly #memory: MemoryChunks | undefined
  readonly #source: ByteSource
  /** Reads the head and what follows it in one request. */
  readonly #front: StreamedSource
  /** Ends all lanes when one fails. */
  readonly #stop = new AbortController()
  readonly #readOptions: ReadOptions
  readonly #report: ReturnType<typeof progressReporter>
  readonly #meter: Meter = { requests: 0, bytes: 0, onBytes: () => this.#progress('network') }
  readonly #stats: FetchStats = {
    totalMs: 0,
    fetchMs: 0,
    verifyMs: 0,
    cacheMs: 0,
    networkBytes: 0,
    cacheBytes: 0,
    requests: 0,
    retries: 0,
  }
  /** Head and wanted chunks. */
  #bytesWanted: number | undefined
  /** Bytes that did not come from the network. */
  #localBytes = 0
  #remembered: Promise<void> | undefined
  /** Reports the bytes that came too soon after the last report, where the server then sends no more. */
  #laterReport: ReturnType<typeof setTimeout> | undefined

  constructor(request: FetchRequest, context: FetchContext) {
    const { cache, memory, priority, onProgress } = context
    this.#request = request
    this.#context = context
    this.#readOptions = { signal: this.#stop.signal, priority }
    this.#source = this.#open(context.retry)
    this.#front = withStream(this.#source, this.#readOptions)
    // Files and bytes that the visitor brought need no copy.
    this.#cache = this.#source.stream ? cache : undefined
    this.#memory = this.#source.stream && request.kind !== 'base' ? memory : undefined
    this.#report = progressReporter(request.name ?? this.#source.name, this.#source.name, onProgress)
  }

  async run(): Promise<FetchedFile> {
    const started = performance.now()
    const { signal } = this.#context
    const onAbort = () => this.#stop.abort(abortError(signal))
    if (signal?.aborted) onAbort()
    else signal?.addEventListener('abort', onAbort, { once: true })
    try {
      this.#stop.signal.throwIfAborted()
      this.#report('download', this.#source.stream ? 'network' : 'memory')
      const head = await this.#load()
      this.#stats.totalMs = performance.now() - started
      this.#stats.networkBytes = this.#meter.bytes
      this.#stats.requests = this.#meter.requests
      this.#report('done', undefined, this.#bytesWanted, this.#bytesWanted)
      return {
        name: this.#source.name,
        rootHash: head.rootHash,
        fileBytes: head.headBytes + head.payloadBytes,
        table: summary(head),
        stats: this.#stats,
      }
    } catch (error) {
      this.#stop.abort(error)
      throw error
    } finally {
      clearTimeout(this.#laterReport)
      signal?.removeEventListener('abort', onAbort)
      await this.#front.close()
    }
  }

  async #load(): Promise<TritHead> {
    const head = await this.#head()
    const { kind, tensors } = this.#request
    if (kind !== undefined && head.table.kind !== kind) {
      throw new TritswapError(
        'input',
        `Cannot use ${this.#source.name}: expected the file of ${article(kind)}, found that of ${article(head.table.kind)}`,
        { fields: { name: this.#source.name, expected: kind, found: head.table.kind } },
      )
    }
    const local = await this.#localChunks(head)
    const cached = await this.#timed('cacheMs', () => local.indexes())
    const plan = planFetch(head, { tensors, cached })
    this.#bytesWanted = head.headBytes + plan.bytes
    local.begin(this.#request.name ?? this.#source.name, head)
    this.#context.sink?.head(this.#source.name, head)

    const garbled: number[] = []
    await Promise.all([
      this.#fetchRanges(head, plan.ranges, local, plan.cached.length > 0 ? LANES - 1 : LANES),
      this.#readLocal(head, plan.cached, local, garbled, plan.ranges.length > 0 ? 1 : LANES),
    ])
    // Chunks that the browser dropped meanwhile, or that the disk changed.
    await this.#fetchRanges(head, chunkRanges(head, garbled), local, LANES)
    this.#context.sink?.end()
    await this.#timed('cacheMs', () => Promise.all([local.settled(), this.#remembered]))
    return head
  }

  async #head(): Promise<TritHead> {
    const { rootHash } = this.#request
    const { name } = this.#source
    const trusted = rootHash === undefined ? undefined : await this.#storedHead(rootHash)
    if (trusted) return trusted

    if (rootHash === undefined) {
      const hint = await this.#timed('cacheMs', async () =>
        this.#cache?.rootHashAt(name).catch(() => undefined),
      )
      const last = hint === undefined ? undefined : await this.#storedHead(hint)
      if (last && (await this.#isStill(last))) return last
    }
    const head = await this.#timed('fetchMs', () => readHead(this.#front, { ...this.#readOptions, rootHash }))
    this.#remembered = this.#cache?.rememberRootHash(name, head.rootHash).catch(() => {})
    return head
  }

  async #storedHead(rootHash: string): Promise<TritHead | undefined> {
    const { name } = this.#source
    try {
      const bytes = await this.#timed(
        'cacheMs',
        async () => this.#memory?.open(rootHash).head ?? this.#cache?.open(rootHash).head(),
      )
      if (!bytes) return undefined
      const head = await parseHead(bytes, name, rootHash)
      this.#stats.cacheBytes += bytes.length
      this.#localBytes += bytes.length
      return head
    } catch {
      // A garbled head, or a storage that fails, counts as absent.
      return undefined
    }
  }

  #open(retry: Partial<RetryPolicy> = {}): ByteSource {
    const { source, parts } = this.#request
    return withRetry(openWhole(source, parts, { ...this.#context.http, meter: this.#meter }), {
      ...retry,
      onRetry: () => this.#stats.retries++,
    })
  }

  /**
   * Whether the address still has the file that it had when it was last loaded. If the server is out of reach, a complete
   * copy counts as current.
   */
  async #isStill(last: TritHead): Promise<boolean> {
    const { name } = this.#source
    const { retry } = this.#context
    const complete = await this.#isComplete(last)
    // With a complete copy here, more retries would only delay what the copy can serve.
    const source = complete ? this.#open({ ...retry, attempts: 2 }) : this.#source
    try {
      if (complete && globalThis.navigator?.onLine === false) throw offline(name)
      const bytes = await this.#timed('fetchMs', () => source.read(0, last.headBytes, this.#readOptions))
      return (await parseHead(bytes, name)).rootHash === last.rootHash
    } catch (error) {
      if (complete && isUnreachable(error)) {
        this.#context.onWarning?.(
          `${name} cannot be reached: using the copy in the cache, which may be out of date`,
        )
        return true
      }
      if (isTritswapError(error, 'network') || isAbortError(error)) throw error
      // Not a head at all: another file is there now.
      return false
    }
  }

  async #localChunks({ rootHash, bytes }: TritHead): Promise<LocalChunks> {
    const memory = this.#memory?.open(rootHash)
    if (memory) memory.head = bytes
    const available = await this.#cache?.available()
    if (available === false) this.#warnUncached('the browser gives this page no storage')
    const cached = available ? this.#cache?.open(rootHash) : undefined
    return new LocalChunks(cached, memory, (why) => this.#warnUncached(why))
  }

  /** Whether all wanted chunks are on this device. */
  async #isComplete(head: TritHead): Promise<boolean> {
    const cached = await (await this.#localChunks(head)).indexes()
    return planFetch(head, { tensors: this.#request.tensors, cached }).ranges.length === 0
  }

  async #fetchRanges(head: TritHead, ranges: FetchRange[], local: LocalChunks, lanes: number): Promise<void> {
    const queue = [...ranges]
    const others: Promise<void>[] = []
    const lane = async (isFirst: boolean) => {
      let view: StreamedSource | undefined
      try {
        for (let range = queue.shift(); range; range = queue.shift()) {
          if (isFirst && this.#frontLeadsTo(range)) {
            view = this.#front
          } else if (!view || this.#source.seekable !== false) {
            await view?.close()
            view = withStream(this.#source, { ...this.#readOptions, end: range.end })
          }
          for (let index = range.first; index <= range.last; index++) {
            await this.#fetchChunk(head, index, view, local)
            // More requests only once the first answer shows that the server knows ranges: else each would start at 0.
            if (isFirst && this.#source.seekable !== false) {
              while (others.length < Math.min(lanes - 1, queue.length)) others.push(quiet(lane(false)))
            }
          }
        }
      } finally {
        await view?.close()
      }
    }
    if (!ranges[0] || !this.#frontLeadsTo(ranges[0])) await this.#front.close()
    await lane(true)
    await Promise.all(others)
  }

  /** Whether reading on in the open request reaches this range. */
  #frontLeadsTo({ offset }: FetchRange): boolean {
    const { position } = this.#front
    if (position === undefined) return false
    return position === offset || (position < offset && this.#source.seekable === false)
  }

  async #fetchChunk(head: TritHead, index: number, view: ByteSource, local: LocalChunks): Promise<void> {
    const { name, stream } = this.#source
    const offset = head.headBytes + index * head.chunkBytes
    const length = chunkLength(head, index)
    let bytes = await this.#timed('fetchMs', () => view.read(offset, length, this.#readOptions))
    try {
      await this.#timed('verifyMs', () => verifyChunk(head, index, bytes, name))
    } catch (error) {
      if (!stream) throw error
      // An HTTP cache may hold a bad copy: fetch once more, bypassing all of them.
      bytes = await this.#timed('fetchMs', () =>
        this.#source.read(offset, length, { ...this.#readOptions, fresh: true }),
      )
      await this.#timed('verifyMs', () => verifyChunk(head, index, bytes, name))
    }
    if (!stream) this.#localBytes += length
    await this.#timed('cacheMs', () => local.write(index, bytes))
    await this.#deliver(head, index, bytes)
  }

  async #readLocal(
    head: TritHead,
    indexes: number[],
    local: LocalChunks,
    garbled: number[],
    lanes: number,
  ): Promise<void> {
    const queue = [...indexes]
    const lane = async () => {
      for (let index = queue.shift(); index !== undefined; index = queue.shift()) {
        const bytes = await this.#timed('cacheMs', () => local.read(index))
        const good = bytes && (await this.#timed('verifyMs', () => isChunk(head, index, bytes)))
        if (!good) {
          garbled.push(index)
          continue
        }
        this.#stats.cacheBytes += bytes.length
        this.#localBytes += bytes.length
        this.#progress('cache')
        await this.#deliver(head, index, bytes)
      }
    }
    await Promise.all(Array.from({ length: lanes }, lane))
    garbled.sort((a, b) => a - b)
  }

  async #deliver(head: TritHead, index: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    this.#stop.signal.throwIfAborted()
    await this.#context.sink?.chunk({ index, offset: index * head.chunkBytes, bytes })
  }

  #warnUncached(why: string): void {
    this.#context.onWarning?.(`Files are not cached for the next visit: ${why}`)
  }

  #progress(phase: 'network' | 'cache'): void {
    if (this.#bytesWanted === undefined) return
    clearTimeout(this.#laterReport)
    const bytes = this.#meter.bytes + this.#localBytes
    if (!this.#report('progress', phase, bytes, this.#bytesWanted))
      this.#laterReport = setTimeout(() => this.#progress(phase), INTERVAL_MS)
  }

  async #timed<T>(phase: 'fetchMs' | 'verifyMs' | 'cacheMs', action: () => Promise<T>): Promise<T> {
    const started = performance.now()
    try {
      return await action()
    } finally {
      this.#stats[phase] += performance.now() - started
    }
  }
}

function offline(name: string): TritswapError {
  return new TritswapError('network', `Cannot fetch ${name}: the browser is offline`, {
    fields: { url: name },
  })
}

/** The server did not answer at all. */
function isUnreachable(error: unknown): boolean {
  return isTritswapError(error, 'network') && error.fields.status === undefined
}

/** The promise, whose rejection is not reported as unhandled if it comes before somebody awaits it. */
function quiet<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {})
  return promise
}

function isChunk(head: TritHead, index: number, bytes: Uint8Array<ArrayBuffer>): Promise<boolean> {
  return verifyChunk(head, index, bytes, 'the cache').then(
    () => true,
    () => false,
  )
}

function article(kind: 'expert' | 'base'): string {
  return kind === 'expert' ? 'an expert' : 'a base'
}

function summary({ table }: TritHead): FetchedFile['table'] {
  const { kind, method, base, compression, label, description, prompt, licence } = table
  return { kind, method, base, compression, label, description, prompt, licence }
}
