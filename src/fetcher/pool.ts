import { abortError, isAbortError, packError, TritswapError } from '../errors.ts'
import { transfer } from '../rpc/index.ts'
import { type ChunkCache, openChunkCache } from '../source/cache.ts'
import { type PoolWorker, PoolWorkers } from './pool_workers.ts'
import {
  type FetchedFile,
  type FetchProgress,
  type FetchRequest,
  type FetchSettings,
  type FileMessage,
  isSameFile,
} from './protocol.ts'
import { absoluteSource, nameOfSource } from './source_spec.ts'

export interface FetchPoolOptions {
  /** Starts the worker of `fetcher/worker.ts`; how depends on the bundler. */
  createWorker: () => Worker
  /** Workers at most. By default half the cores, but 2 to 4: they wait more than they compute. */
  size?: number
  /** A worker without work stops after this time (30 s by default), the last one after ten times as long. */
  idleMs?: number
  /** What relative addresses are relative to: the base URL of the page. That of this thread's script by default. */
  baseUrl?: string
  settings?: FetchSettings
  /** Called once for each cause that makes loads slower but not wrong, e.g. a cache that cannot be written. */
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
  /** Aborts with the error of `done` when that rejects. The reader of the port needs it: the port stays silent then. */
  signal: AbortSignal
}

/** What a prefetch did, or why it did nothing. */
export type PrefetchResult =
  | { status: 'cached'; file: FetchedFile }
  | { status: 'skipped'; reason: 'save-data' | 'no-cache' }

/** A load, waiting or running. */
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

/** The reason with which a prefetch is aborted to make way. It is queued again, so no caller sees this error. */
const MAKE_WAY = new DOMException('A foreground load goes first', 'AbortError')

/**
 * The page's side of the fetch workers: one load per worker at a time, foreground loads first. Prefetches run only while
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
  readonly #workers: PoolWorkers<Job>
  readonly #warned = new Set<string>()
  #askedToPersist = false
  #disposed = false

  constructor(options: FetchPoolOptions) {
    this.#options = options
    this.#size =
      options.size ??
      Math.min(4, Math.max(2, Math.floor((globalThis.navigator?.hardwareConcurrency ?? 4) / 2)))
    this.#workers = new PoolWorkers(options.createWorker, options.idleMs ?? 30_000)
    this.cache = openChunkCache({ budget: options.settings?.cacheBudget })
  }

  /** Starts to load a file into the port that it returns. */
  load(request: FetchRequest, options: FetchOptions = {}): FetchHandle {
    const { port1, port2 } = new MessageChannel()
    const failed = new AbortController()
    const done = this.#enqueue(request, 'high', port1, options)
    done.catch((error) => {
      failed.abort(error)
      // If a worker got the port, this does nothing.
      port1.close()
    })
    return { port: port2, done, signal: failed.signal }
  }

  /** Fills the cache while no other load runs, unless the visitor asked for saving data. */
  async prefetch(request: FetchRequest, options: FetchOptions = {}): Promise<PrefetchResult> {
    const browser = globalThis.navigator as { connection?: { saveData?: boolean } } | undefined
    if (browser?.connection?.saveData) return { status: 'skipped', reason: 'save-data' }
    if (!(await this.cache.available())) return { status: 'skipped', reason: 'no-cache' }
    return { status: 'cached', file: await this.#enqueue(request, 'low', undefined, options) }
  }

  /** Starts a worker ahead of the first load, which then need not wait for it. */
  warm(): void {
    if (!this.#disposed) this.#workers.warm()
  }

  /** Stops every worker; pending loads reject. */
  dispose(): void {
    this.#disposed = true
    const error = new TritswapError('released', 'Cannot go on with a load: its loader was disposed')
    for (const job of this.#queue.splice(0)) this.#fail(job, error)
    this.#workers.terminate(error)
  }

  #enqueue(
    request: FetchRequest,
    priority: 'high' | 'low',
    port: MessagePort | undefined,
    options: FetchOptions,
  ): Promise<FetchedFile> {
    return new Promise((resolve, reject) => {
      const source = absoluteSource(request.source, this.#options.baseUrl ?? globalThis.location?.href)
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
        this.#workers.dropWaiter(job)
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
      const file = nameOfSource(source)
      options.onProgress?.({ status: 'initiate', name: request.name ?? file, file, phase: 'queue' })
      this.#queue.push(job)
      this.#schedule()
    })
  }

  /** Rejects a job. If no worker has its port, tells the receiver too. */
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
    let worker: PoolWorker<Job> | undefined
    try {
      worker = this.#workers.take(job)
      const { port } = job
      job.port = undefined
      const file = await worker.link.api.fetch(
        job.request,
        port && transfer(port, [port]),
        { ...this.#options.settings, priority: job.priority },
        running.signal,
        (progress) => job.options.onProgress?.(progress),
        (message) => this.#warn(message),
      )
      // The waiting loads asked for this file while it was on its way: from now on they know its hash.
      for (const waiter of this.#waitersFor(job)) waiter.request.rootHash ??= file.rootHash
      job.resolve(file)
      if (file.stats.networkBytes > 0) void this.#persist()
    } catch (error) {
      const makesWay = running.signal.reason === MAKE_WAY && isAbortError(error) && !this.#disposed
      if (makesWay && !job.options.signal?.aborted) this.#queue.push(job)
      else this.#fail(job, error)
    } finally {
      job.running = undefined
      this.#running.delete(job)
      if (worker) this.#giveBack(worker, job)
      this.#schedule()
    }
  }

  /** The queued loads of the same file as a job. */
  #waitersFor(job: Job): Job[] {
    return this.#queue.filter((other) => other !== job && isSameFile(other.request, job.request))
  }

  /** Gives a job's worker back. A queued load of the same file comes next, and takes what the job fetched. */
  #giveBack(worker: PoolWorker<Job>, job: Job): void {
    const [nextWaiter] = this.#waitersFor(job)
    this.#workers.giveBack(worker, nextWaiter)
    if (!nextWaiter) return
    this.#queue.splice(this.#queue.indexOf(nextWaiter), 1)
    this.#queue.unshift(nextWaiter)
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
