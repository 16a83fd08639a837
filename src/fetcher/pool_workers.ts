import { isTritswapError, TritswapError } from '../errors.ts'
import { connectWorker, type WorkerLink } from '../rpc/index.ts'
import type { FetchWorkerApi } from './protocol.ts'

/** A fetch worker, which loads one file at a time. */
export interface PoolWorker<Job> {
  readonly link: WorkerLink<FetchWorkerApi>
  busy: boolean
  /** The next load of the file that this worker loaded last: it still has in memory what the cache did not take. */
  nextWaiter: Job | undefined
  idleTimer: ReturnType<typeof setTimeout> | undefined
}

/** Starts fetch workers as they are needed, reuses them, and stops those without work. */
export class PoolWorkers<Job> {
  readonly #createWorker: () => Worker
  readonly #idleMs: number
  readonly #workers = new Set<PoolWorker<Job>>()

  /** @param idleMs - a worker without work stops after this time, the last one after ten times as long */
  constructor(createWorker: () => Worker, idleMs: number) {
    this.#createWorker = createWorker
    this.#idleMs = idleMs
  }

  /** Starts a worker unless there is one. */
  warm(): void {
    if (this.#workers.size === 0) this.#rest(this.#start())
  }

  /** A free worker for a job, or a new one; the one that holds chunks for the job, if there is one. */
  take(job: Job): PoolWorker<Job> {
    const idle = [...this.#workers].filter(({ busy }) => !busy)
    const worker =
      idle.find(({ nextWaiter }) => nextWaiter === job) ??
      idle.find(({ nextWaiter }) => !nextWaiter) ??
      idle[0] ??
      this.#start()
    clearTimeout(worker.idleTimer)
    worker.busy = true
    worker.nextWaiter = undefined
    return worker
  }

  /** Takes a worker back. It holds on to its chunks for `nextWaiter`, or drops them. */
  giveBack(worker: PoolWorker<Job>, nextWaiter: Job | undefined): void {
    this.#rest(worker)
    worker.nextWaiter = nextWaiter
    if (!nextWaiter) dropChunks(worker)
  }

  /** Drops the chunks that are held for a job which will not run. */
  dropWaiter(job: Job): void {
    for (const worker of this.#workers) {
      if (worker.nextWaiter !== job) continue
      worker.nextWaiter = undefined
      dropChunks(worker)
    }
  }

  /** Stops all workers; calls into them reject with `error`. */
  terminate(error: Error): void {
    for (const { link } of [...this.#workers]) link.terminate(error)
  }

  #start(): PoolWorker<Job> {
    let thread: Worker
    try {
      thread = this.#createWorker()
    } catch (cause) {
      if (isTritswapError(cause)) throw cause
      throw new TritswapError('worker', 'Cannot start a fetch worker: the browser refused its script', {
        cause,
      })
    }
    const link = connectWorker<FetchWorkerApi>(thread, 'fetch worker')
    const worker: PoolWorker<Job> = { link, busy: false, nextWaiter: undefined, idleTimer: undefined }
    link.dead.addEventListener('abort', () => this.#workers.delete(worker), { once: true })
    this.#workers.add(worker)
    return worker
  }

  #rest(worker: PoolWorker<Job>): void {
    worker.busy = false
    if (worker.link.dead.aborted) return
    worker.idleTimer = setTimeout(() => {
      if (this.#workers.size > 1) worker.link.terminate()
      // The next expert should not have to wait for a worker to start, which takes longer than many a round trip.
      else worker.idleTimer = setTimeout(() => worker.link.terminate(), 9 * this.#idleMs)
    }, this.#idleMs)
  }
}

function dropChunks({ link }: PoolWorker<unknown>): void {
  if (!link.dead.aborted) link.api.dropChunks().catch(() => {})
}
