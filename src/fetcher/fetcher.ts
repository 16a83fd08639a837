import { abortError, isAbortError, isTritswapError, TritswapError } from '../errors.ts'
import { chunkLength, parseHead, readHead, type TritHead, verifyChunk } from '../format/head.ts'
import { chunkRanges, type FetchRange, planFetch } from '../format/plan.ts'
import type { CachedFile, ChunkCache } from '../source/cache.ts'
import type { HttpOptions, Meter } from '../source/http.ts'
import { openSource } from '../source/open.ts'
import { type RetryPolicy, withRetry } from '../source/retry.ts'
import type { ByteSource, ReadOptions } from '../source/source.ts'
import { type StreamedSource, withStream } from '../source/stream.ts'
import type { FileChunks, MemoryChunks } from './memory_chunks.ts'
import { progressReporter } from './progress.ts'
import type { FetchedFile, FetchProgress, FetchRequest, FetchStats, PayloadChunk } from './protocol.ts'

/** Where a file goes. */
export interface ChunkSink {
  head(name: string, head: TritHead): void
  /** Takes the bytes over, once there is room for them. */
  chunk(chunk: PayloadChunk): Promise<void>
  /** There are no more chunks. Nothing can fail any more; copies may still be on their way into the cache. */
  end(): void
}

export interface FetchContext {
  /** Absent for a prefetch: the cache is all that is filled. */
  sink?: ChunkSink
  cache?: ChunkCache
  /** Takes the chunks that the cache does not. */
  held?: MemoryChunks
  signal?: AbortSignal
  priority?: 'high' | 'low'
  retry?: Partial<RetryPolicy>
  http?: HttpOptions
  onProgress?(progress: FetchProgress): void
  onWarning?(message: string): void
}

/** Chunks of one file in hand at a time, each in a request or a cache look-up of its own: the memory of a worker. */
const LANES = 3

/**
 * Loads a file: its head, then every wanted chunk from wherever it is. Each chunk is verified before it goes to the
 * sink or into the cache. A file that is loaded whole for the first time costs one request; one that is cached costs
 * none, or one for the head where no root hash says that it is still the same.
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
  readonly #held: MemoryChunks | undefined
  readonly #source: ByteSource
  /** For the head and what follows it, in one request. */
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
  /** Bytes that came from elsewhere than the network. */
  #bytesAtHand = 0
  /** Resolves to whether chunks may be written. */
  #begun: Promise<boolean> = Promise.resolve(false)
  /** The cache write under way; one at a time, for each holds a copy of its chunk. */
  #writing: Promise<void> = Promise.resolve()
  #remembered: Promise<void> | undefined

  constructor(request: FetchRequest, context: FetchContext) {
    const { cache, held, priority, onProgress } = context
    this.#request = request
    this.#context = context
    this.#readOptions = { signal: this.#stop.signal, priority }
    this.#source = this.#open(context.retry)
    this.#front = withStream(this.#source, this.#readOptions)
    // What is in the visitor's hands already needs no copy on the disk.
    this.#cache = this.#source.stream ? cache : undefined
    this.#held = this.#source.stream && request.kind !== 'base' ? held : undefined
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
    const file = await this.#storesOf(head)
    const plan = planFetch(head, { tensors, cached: await this.#timed('cacheMs', () => chunksIn(file)) })
    this.#bytesWanted = head.headBytes + plan.bytes
    if (file.cached) this.#begin(file.cached, head)
    this.#context.sink?.head(this.#source.name, head)

    const garbled: number[] = []
    await Promise.all([
      this.#fetchRanges(head, plan.ranges, file, plan.cached.length > 0 ? LANES - 1 : LANES),
      this.#readStored(head, plan.cached, file, garbled, plan.ranges.length > 0 ? 1 : LANES),
    ])
    // Entries that the browser dropped meanwhile, or the disk changed.
    await this.#fetchRanges(head, chunkRanges(head, garbled), file, LANES)
    this.#context.sink?.end()
    await this.#timed('cacheMs', () => Promise.all([this.#writing, this.#remembered]))
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
        async () => this.#held?.open(rootHash).head ?? this.#cache?.open(rootHash).head(),
      )
      if (!bytes) return undefined
      const head = await parseHead(bytes, name, rootHash)
      this.#stats.cacheBytes += bytes.length
      this.#bytesAtHand += bytes.length
      return head
    } catch {
      // Garbled, or the storage failed: as if it were not there.
      return undefined
    }
  }

  #open(retry: Partial<RetryPolicy> = {}): ByteSource {
    return withRetry(openSource(this.#request.source, { ...this.#context.http, meter: this.#meter }), {
      ...retry,
      onRetry: () => this.#stats.retries++,
    })
  }

  /** Whether the address still has the file that it had when it was last loaded: yes, if nobody can tell. */
  async #isStill(last: TritHead): Promise<boolean> {
    const { name } = this.#source
    const { retry } = this.#context
    const complete = await this.#isComplete(last)
    // Who has it all needs no patience: offline, the copy is as good as it gets.
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
      // Another file, shorter or of another shape.
      return false
    }
  }

  /** Where this thread has, and puts, chunks of a file. */
  async #storesOf(head: TritHead): Promise<Stores> {
    const held = this.#held?.open(head.rootHash)
    if (held) held.head = head.bytes
    const available = await this.#cache?.available()
    if (available === false) this.#notKept('the browser gives this page no storage')
    return { held, cached: available ? this.#cache?.open(head.rootHash) : undefined }
  }

  /** Whether nothing of what is wanted is missing here. */
  async #isComplete(head: TritHead): Promise<boolean> {
    const cached = await chunksIn(await this.#storesOf(head))
    return planFetch(head, { tensors: this.#request.tensors, cached }).ranges.length === 0
  }

  async #fetchRanges(head: TritHead, ranges: FetchRange[], file: Stores, lanes: number): Promise<void> {
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
            await this.#fetchChunk(head, index, view, file)
            // The first answer tells whether the server knows ranges; if not, more requests would each start at 0.
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

  /** Whether the open request comes to this range by itself. */
  #frontLeadsTo({ offset }: FetchRange): boolean {
    const { position } = this.#front
    if (position === undefined) return false
    return position === offset || (position < offset && this.#source.seekable === false)
  }

  async #fetchChunk(head: TritHead, index: number, view: ByteSource, file: Stores): Promise<void> {
    const { name, stream } = this.#source
    const offset = head.headBytes + index * head.chunkBytes
    const length = chunkLength(head, index)
    let bytes = await this.#timed('fetchMs', () => view.read(offset, length, this.#readOptions))
    try {
      await this.#timed('verifyMs', () => verifyChunk(head, index, bytes, name))
    } catch (error) {
      if (!stream) throw error
      // A cache on the way may hold a bad copy: once more, past all of them.
      bytes = await this.#timed('fetchMs', () =>
        this.#source.read(offset, length, { ...this.#readOptions, fresh: true }),
      )
      await this.#timed('verifyMs', () => verifyChunk(head, index, bytes, name))
    }
    if (!stream) this.#bytesAtHand += length
    if (file.cached) await this.#store(file, index, bytes)
    else file.held?.keep(index, bytes)
    await this.#deliver(head, index, bytes)
  }

  async #readStored(
    head: TritHead,
    indexes: number[],
    file: Stores,
    garbled: number[],
    lanes: number,
  ): Promise<void> {
    const queue = [...indexes]
    const lane = async () => {
      for (let index = queue.shift(); index !== undefined; index = queue.shift()) {
        const bytes = await this.#timed('cacheMs', () => chunkIn(file, index))
        const good = bytes && (await this.#timed('verifyMs', () => isChunk(head, index, bytes)))
        if (!good) {
          garbled.push(index)
          continue
        }
        this.#stats.cacheBytes += bytes.length
        this.#bytesAtHand += bytes.length
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

  /** Opens the file in the cache for writing, and marks it as used, while the network is busy. */
  #begin(file: CachedFile, head: TritHead): void {
    const { headBytes, payloadBytes, chunkBytes } = head
    const layout = { name: this.#request.name ?? this.#source.name, headBytes, payloadBytes, chunkBytes }
    this.#begun = file.begin(layout, head.bytes).then(
      (begun) => begun || this.#notKept('the largest are over the budget of the cache'),
      (error) => this.#giveUpCache(error),
    )
  }

  /** Starts to write a copy once the write before has ended, so that `bytes` can be handed on. */
  async #store({ cached, held }: Stores, index: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    await this.#timed('cacheMs', async () => {
      const turn = this.#writing
      let started = () => {}
      const copied = new Promise<void>((resolve) => {
        started = resolve
      })
      this.#writing = turn.then(async () => {
        const writable = await this.#begun
        const written = writable ? cached?.write(index, bytes) : undefined
        if (!written) held?.keep(index, bytes)
        started()
        await written?.catch((error) => this.#giveUpCache(error))
      })
      await copied
    })
  }

  #giveUpCache(error: unknown): false {
    this.#begun = Promise.resolve(false)
    const why = error instanceof Error ? error.name : String(error)
    return this.#notKept(`the browser refuses to store them (${why})`)
  }

  #notKept(why: string): false {
    this.#context.onWarning?.(`Files are not kept for the next visit: ${why}`)
    return false
  }

  #progress(phase: 'network' | 'cache'): void {
    if (this.#bytesWanted === undefined) return
    this.#report('progress', phase, this.#meter.bytes + this.#bytesAtHand, this.#bytesWanted)
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

/** Where chunks of one file are kept on this machine. */
interface Stores {
  cached: CachedFile | undefined
  held: FileChunks | undefined
}

async function chunksIn({ cached, held }: Stores): Promise<Set<number>> {
  const chunks = (await cached?.chunks().catch(() => undefined)) ?? new Set<number>()
  for (const index of held?.chunks ?? []) chunks.add(index)
  return chunks
}

async function chunkIn({ cached, held }: Stores, index: number) {
  return (await held?.read(index)) ?? (await cached?.read(index).catch(() => undefined))
}

function offline(name: string): TritswapError {
  return new TritswapError('network', `Cannot fetch ${name}: the browser is offline`, {
    fields: { url: name },
  })
}

/** No answer at all, rather than a bad one. */
function isUnreachable(error: unknown): boolean {
  return isTritswapError(error, 'network') && error.fields.status === undefined
}

/** The promise, but it may reject before anybody looks. */
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
