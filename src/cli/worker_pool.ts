import { existsSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { type JobInputs, type JobKind, type JobResults, type RunJob, runJob } from '../compress/jobs.ts'
import { type PackedError, TritswapError, unpackError } from '../errors.ts'
import type { ByteSource } from '../source/source.ts'

/** What a worker thread is asked and answers; sources travel as paths. */
export interface PoolRequest {
  id: number
  kind: JobKind
  input: unknown
}
export type PoolAnswer = { id: number; result: JobResults[JobKind] } | { id: number; error: PackedError }

/** Stands for a file source in a message. */
export interface PathOf {
  path: string
}

/** Jobs in one worker at a time: while one computes, the next one reads. */
const DEPTH = 2

export interface WorkerPool {
  run: RunJob
  /** Ends the threads; what is pending rejects. */
  close(): Promise<void>
}

/** The built entry beside this module; running from the sources there is none. */
const ENTRY = new URL('./compress_worker.js', import.meta.url)

/** Threads that jobs can run on: 1 where there is nothing to start others with. */
export function defaultThreads(): number {
  return existsSync(ENTRY) ? availableParallelism() : 1
}

/** Runs jobs on worker threads; those on anything but files, which a thread cannot open, in this one. */
export function openWorkerPool(threads: number): WorkerPool {
  const waiting: { request: PoolRequest; settle: Settle }[] = []
  const seats = Array.from({ length: threads }, () => new Seat(() => pump()))
  let next = 0
  const pump = () => {
    for (;;) {
      const free = seats.reduce((best, seat) => (seat.load < best.load ? seat : best))
      if (waiting.length === 0 || free.load >= DEPTH) return
      const { request, settle } = waiting.shift()!
      free.start(request, settle)
    }
  }
  return {
    run<K extends JobKind>(kind: K, input: JobInputs[K], signal?: AbortSignal) {
      signal?.throwIfAborted()
      const portable = withPaths(input)
      if (portable === undefined) return runJob(kind, input, signal)
      return new Promise<JobResults[K]>((resolve, reject) => {
        const request = { id: next++, kind, input: portable }
        waiting.push({ request, settle: { resolve: resolve as Settle['resolve'], reject } })
        pump()
      })
    },
    async close() {
      const error = new TritswapError('worker', 'Cannot finish: the worker threads were ended')
      for (const { settle } of waiting.splice(0)) settle.reject(error)
      await Promise.all(seats.map((seat) => seat.close(error)))
    },
  }
}

interface Settle {
  resolve(result: JobResults[JobKind]): void
  reject(error: Error): void
}

/** One worker thread and what it is busy with. */
class Seat {
  readonly #worker: Worker
  readonly #pending = new Map<number, Settle>()
  readonly #onFree: () => void
  #dead: Error | undefined

  constructor(onFree: () => void) {
    this.#onFree = onFree
    this.#worker = new Worker(ENTRY)
    this.#worker.on('message', (answer: PoolAnswer) => this.#settle(answer))
    this.#worker.on('error', (cause) =>
      this.#fail(
        new TritswapError('worker', `Cannot compress: a worker thread died: ${cause.message}`, { cause }),
      ),
    )
    this.#worker.on('exit', (code) =>
      this.#fail(new TritswapError('worker', `Cannot compress: a worker thread exited with code ${code}`)),
    )
  }

  get load(): number {
    return this.#pending.size
  }

  start(request: PoolRequest, settle: Settle): void {
    if (this.#dead !== undefined) {
      settle.reject(this.#dead)
      return
    }
    this.#pending.set(request.id, settle)
    this.#worker.postMessage(request)
  }

  async close(error: Error): Promise<void> {
    this.#fail(error)
    await this.#worker.terminate()
  }

  #settle(answer: PoolAnswer): void {
    const settle = this.#pending.get(answer.id)
    this.#pending.delete(answer.id)
    if ('error' in answer) settle?.reject(unpackError(answer.error))
    else settle?.resolve(answer.result)
    this.#onFree()
  }

  #fail(error: Error): void {
    this.#dead ??= error
    const pending = [...this.#pending.values()]
    this.#pending.clear()
    for (const settle of pending) settle.reject(this.#dead)
    if (pending.length > 0) this.#onFree()
  }
}

/** The input with its sources replaced by their paths, as functions cannot be sent; undefined if one is no file. */
function withPaths(input: object): object | undefined {
  const entries: [string, unknown][] = []
  for (const [key, value] of Object.entries(input)) {
    if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value) || Array.isArray(value)) {
      entries.push([key, value])
    } else if (isSource(value)) {
      if (!('path' in value)) return undefined
      entries.push([key, { path: value.path }])
    } else {
      const inner = withPaths(value)
      if (inner === undefined) return undefined
      entries.push([key, inner])
    }
  }
  return Object.fromEntries(entries)
}

function isSource(value: object): value is ByteSource {
  return 'read' in value && typeof value.read === 'function'
}
