import { abortError, isAbortError, packError, TritswapError } from '../errors.ts'
import { connectWorker, transfer, type WorkerLink } from '../rpc/index.ts'
import { type CachedFileInfo, type ChunkCache, openChunkCache } from '../source/cache.ts'
import { isHubName } from '../source/hf.ts'
import {
  type FetchedFile,
  type FetchProgress,
  type FetchRequest,
  type FetchSettings,
  type FetchWorkerApi,
  type FileMessage,
  isSameFile,
} from './protocol.ts'

export interface FetchPoolOptions {
  /** Starts the worker of `fetcher/worker.ts`; its caller knows how it is bundled. */
  createWorker: () => Worker
  /** Workers at most. By default half the cores, from 2 to 4: they wait more than they compute. */
  size?: number
  /** A worker without work stops after this time; the last one after ten times as long. */
  idleMs?: number
  settings?: FetchSettings
  /** Told once of each thing that makes loads slower but not wrong, e.g. a cache that cannot be written. */
  onWarning?: (message: string) => void
}

export interface FetchOptions {
  signal?: AbortSignal
  onProgress?: (progress: FetchProgress) => void
}

/** A load under way. */
export interface FetchHandle {
  /** The receiving end: transfer it to the thread that calls `receiveFile` on it. */
  port: MessagePort
  /** Settles when every chunk was handed over. */
  done: Promise<FetchedFile>
  /** Aborts when `done` rejects, with its error: pass it to whoever reads the port, which stays silent then. */
  signal: AbortSignal
}

/** Why a prefetch did nothing, or that it did. */
export type PrefetchResult =
  | { status: 'cached'; file: FetchedFile }
  | { status: 'skipped'; reason: 'save-data' | 'no-cache' }

interface Job {
  request: FetchRequest
  priority: 'high' | 'low'
  port: MessagePort | undefined
  options: FetchOptions
  resolve(file: FetchedFile): void
  reject(error: unknown): void
  /** Set while it runs. */
  running: AbortController | undefined
}

interface Slot {
  link: WorkerLink<FetchWorkerApi>
  busy: boolean
  /** The next load of the file that it had last: whatever the cache did not take is still there. */
  nextWaiter: Job | undefined
  idleTimer: ReturnType<typeof setTimeout> | undefined
}

/** The reason that a prefetch is aborted with to make way: not an error of anybody's. */
const MAKE_WAY = new DOMException('A foreground load goes first', 'AbortError')

/**
 * Fetch workers of the main thread: one load per worker at a time, foreground loads first. Prefetches run only while
 * no foreground load does; one that has to make way goes on from the cache later. Loads of one file share one download:
 * they run one after the other, and the later one takes what the earlier one fetched, even if that was aborted.
 *
 * ```ts
 * const pool = new FetchPool({ createWorker: () => new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' }) })
 * const { port, done, signal } = pool.load({ source: url, rootHash }, { onProgress })
 * await Promise.all([done, engine.addExpert(transfer(port, [port]), signal)])
 * ```
 */
export class FetchPool {
  readonly cache: ChunkCache
  readonly #options: FetchPoolOptions
  readonly #size: number
  readonly #queue: Job[] = []
  readonly #running = new Set<Job>()
  readonly #slots = new Set<Slot>()
  readonly #warned = new Set<string>()
  #askedToPersist = false
  #disposed = false

  constructor(options: FetchPoolOptions) {
    this.#options = options
    this.#size =
      options.size ??
      Math.min(4, Math.max(2, Math.floor((globalThis.navigator?.hardwareConcurrency ?? 4) / 2)))
    this.cache = openChunkCache({ budget: options.settings?.cacheBudget })
  }

  /** Starts to load a file towards the port that it returns. */
  load(request: FetchRequest, options: FetchOptions = {}): FetchHandle {
    const { port1, port2 } = new MessageChannel()
    const failed = new AbortController()
    const done = this.#enqueue(request, 'high', port1, options)
    done.catch((error) => {
      failed.abort(error)
      // Ours only if no worker got it.
      port1.close()
    })
    return { port: port2, done, signal: failed.signal }
  }

  /** Fills the cache when nothing else is to be done, unless the visitor asked for saving data. */
  async prefetch(request: FetchRequest, options: FetchOptions = {}): Promise<PrefetchResult> {
    const browser = globalThis.navigator as { connection?: { saveData?: boolean } } | undefined
    if (browser?.connection?.saveData) return { status: 'skipped', reason: 'save-data' }
    if (!(await this.cache.available())) return { status: 'skipped', reason: 'no-cache' }
    return { status: 'cached', file: await this.#enqueue(request, 'low', undefined, options) }
  }

  /** Starts a worker ahead of the first load, which then need not wait for it. */
  warm(): void {
    if (this.#disposed || this.#slots.size > 0) return
    this.#rest(this.#start())
  }

  /** Stops every worker; what is pending rejects. */
  dispose(): void {
    this.#disposed = true
    const error = new TritswapError('released', 'Cannot go on with a load: its loader was disposed')
    for (const job of this.#queue.splice(0)) this.#fail(job, error)
    for (const slot of [...this.#slots]) slot.link.terminate(error)
    this.#slots.clear()
  }

  #enqueue(
    request: FetchRequest,
    priority: 'high' | 'low',
    port: MessagePort | undefined,
    options: FetchOptions,
  ): Promise<FetchedFile> {
    return new Promise((resolve, reject) => {
      const source = absolute(request.source)
      const job: Job = {
        request: { ...request, source },
        priority,
        port,
        options,
        resolve,
        reject,
        running: undefined,
      }
      if (this.#disposed) {
        return this.#fail(
          job,
          new TritswapError('released', 'Cannot load: the loader was disposed; create a new one'),
        )
      }
      const { signal } = options
      if (signal?.aborted) return this.#fail(job, abortError(signal))
      const onAbort = () => {
        const at = this.#queue.indexOf(job)
        if (at >= 0) this.#queue.splice(at, 1)
        for (const slot of this.#slots) if (slot.nextWaiter === job) this.#forget(slot)
        if (job.running) job.running.abort(abortError(signal))
        else this.#fail(job, abortError(signal))
      }
      signal?.addEventListener('abort', onAbort, { once: true })
      job.resolve = (file) => {
        signal?.removeEventListener('abort', onAbort)
        resolve(file)
      }
      job.reject = (error) => {
        signal?.removeEventListener('abort', onAbort)
        reject(error)
      }
      const name = request.name ?? nameOf(source)
      options.onProgress?.({ status: 'initiate', name, file: nameOf(source), phase: 'queue' })
      this.#queue.push(job)
      this.#schedule()
    })
  }

  /** Rejects a job that no worker has: tells the receiver too. */
  #fail(job: Job, error: unknown): void {
    if (job.port) {
      job.port.postMessage({ type: 'error', error: packError(error) } satisfies FileMessage)
      job.port.close()
      job.port = undefined
    }
    job.reject(error)
  }

  #schedule(): void {
    if (this.#disposed) return
    const isForeground = (job: Job) => job.priority === 'high'
    if (this.#queue.some(isForeground)) {
      for (const job of this.#running) if (!isForeground(job)) job.running?.abort(MAKE_WAY)
    }
    for (;;) {
      const foreground = this.#queue.some(isForeground) || [...this.#running].some(isForeground)
      const at = this.#queue.findIndex(
        (job) =>
          isForeground(job) === foreground &&
          ![...this.#running].some((other) => isSameFile(other.request, job.request)),
      )
      if (at < 0 || this.#running.size >= this.#size) return
      const [job] = this.#queue.splice(at, 1)
      void this.#run(job)
    }
  }

  async #run(job: Job): Promise<void> {
    this.#running.add(job)
    const running = new AbortController()
    job.running = running
    let slot: Slot | undefined
    try {
      slot = this.#slot(job)
      const { port } = job
      job.port = undefined
      const file = await slot.link.api.fetch(
        job.request,
        port && transfer(port, [port]),
        { ...this.#options.settings, priority: job.priority },
        running.signal,
        (progress) => job.options.onProgress?.(progress),
        (message) => this.#warn(message),
      )
      // They asked while it was on its way: it is what they asked for.
      for (const other of this.#heirs(job)) other.request.rootHash ??= file.rootHash
      job.resolve(file)
      if (file.stats.networkBytes > 0) void this.#persist()
    } catch (error) {
      const makesWay = running.signal.reason === MAKE_WAY && isAbortError(error) && !this.#disposed
      if (makesWay && !job.options.signal?.aborted) this.#queue.push(job)
      else this.#fail(job, error)
    } finally {
      job.running = undefined
      this.#running.delete(job)
      if (slot) this.#leave(slot, job)
      this.#schedule()
    }
  }

  /** Those who wait for the file of a job. */
  #heirs(job: Job): Job[] {
    return this.#queue.filter((other) => other !== job && isSameFile(other.request, job.request))
  }

  /** Ends a job in its worker: what it fetched goes to who waits for the same file, or away. */
  #leave(slot: Slot, job: Job): void {
    this.#rest(slot)
    const [nextWaiter] = this.#heirs(job)
    if (!nextWaiter) {
      this.#forget(slot)
      return
    }
    slot.nextWaiter = nextWaiter
    this.#queue.splice(this.#queue.indexOf(nextWaiter), 1)
    this.#queue.unshift(nextWaiter)
  }

  #forget(slot: Slot): void {
    slot.nextWaiter = undefined
    if (!slot.link.dead.aborted) slot.link.api.forget().catch(() => {})
  }

  /** A free worker, or a new one. */
  #slot(job: Job): Slot {
    const idle = [...this.#slots].filter(({ busy }) => !busy)
    const slot =
      idle.find(({ nextWaiter }) => nextWaiter === job) ??
      idle.find(({ nextWaiter }) => !nextWaiter) ??
      idle[0] ??
      this.#start()
    clearTimeout(slot.idleTimer)
    slot.busy = true
    slot.nextWaiter = undefined
    return slot
  }

  #start(): Slot {
    let worker: Worker
    try {
      worker = this.#options.createWorker()
    } catch (cause) {
      throw new TritswapError('worker', 'Cannot start a fetch worker: the browser refused its script', {
        cause,
      })
    }
    const link = connectWorker<FetchWorkerApi>(worker, 'fetch worker')
    const slot: Slot = { link, busy: false, nextWaiter: undefined, idleTimer: undefined }
    link.dead.addEventListener('abort', () => this.#slots.delete(slot), { once: true })
    this.#slots.add(slot)
    return slot
  }

  #rest(slot: Slot): void {
    slot.busy = false
    if (slot.link.dead.aborted) return
    const idleMs = this.#options.idleMs ?? 30_000
    slot.idleTimer = setTimeout(() => {
      if (this.#slots.size > 1) slot.link.terminate()
      // The next expert should not wait for a worker to start: that takes as long as many a round trip.
      else slot.idleTimer = setTimeout(() => slot.link.terminate(), 9 * idleMs)
    }, idleMs)
  }

  #warn(message: string): void {
    if (this.#warned.has(message)) return
    this.#warned.add(message)
    this.#options.onWarning?.(message)
  }

  /** Asks the browser once not to drop the cache when the disk gets full. */
  async #persist(): Promise<void> {
    if (this.#askedToPersist || !(await this.cache.available())) return
    this.#askedToPersist = true
    await globalThis.navigator?.storage?.persist?.().catch(() => false)
  }
}

export type { CachedFileInfo, ChunkCache }

/** As the workers need it: they may have no base URL of their own. */
function absolute(source: FetchRequest['source']): FetchRequest['source'] {
  if (source instanceof URL) return source.href
  if (typeof source !== 'string' || isHubName(source)) return source
  const base = globalThis.document?.baseURI ?? globalThis.location?.href
  try {
    return new URL(source, base).href
  } catch (cause) {
    throw new TritswapError(
      'input',
      `Cannot load ${source}: it is not a URL; write ./file.trit, https://… or hf:owner/repo/file`,
      {
        fields: { source },
        cause,
      },
    )
  }
}

function nameOf(source: FetchRequest['source']): string {
  if (typeof source === 'string') return source
  return source instanceof Blob && 'name' in source ? String(source.name) : 'memory'
}
