import { existsSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import type { JobInputs, JobKind, JobResults, RunJob } from '../compress/jobs.ts'
import { runJob } from '../compress/passes.ts'
import { connectWorker } from '../rpc/index.ts'
import type { CompressWorker } from './compress_worker.ts'
import { withPaths } from './job_paths.ts'
import { startThread } from './node_worker.ts'

/** Jobs in one thread at a time: while one computes, the next one reads. */
const DEPTH = 2

export interface WorkerPool {
  run: RunJob
  /** Ends the threads; pending jobs reject. */
  close(): void
}

/** The built entry beside this module; there is none when the CLI runs from its sources. */
const ENTRY = new URL('./compress_worker.js', import.meta.url)

/** How many threads jobs can run on: 1 where there is no entry to start others with. */
export function defaultThreads(): number {
  return existsSync(ENTRY) ? availableParallelism() : 1
}

/** Runs jobs on worker threads; a job on anything but files, which a thread cannot open, runs in this one. */
export function openWorkerPool(threads: number): WorkerPool {
  const workers = Array.from({ length: threads }, () => ({
    link: connectWorker<CompressWorker>(startThread(ENTRY), 'compression thread'),
    jobs: 0,
  }))
  const waiting: (() => void)[] = []

  /** The least busy worker, with one job more: counted here, before another caller can choose. */
  async function takeWorker() {
    for (;;) {
      const free = workers.reduce((best, worker) => (worker.jobs < best.jobs ? worker : best))
      if (free.jobs < DEPTH) {
        free.jobs++
        return free
      }
      await new Promise<void>((resolve) => waiting.push(resolve))
    }
  }

  return {
    async run<K extends JobKind>(kind: K, input: JobInputs[K], signal?: AbortSignal) {
      signal?.throwIfAborted()
      const portable = withPaths(input)
      if (portable === undefined) return runJob(kind, input, signal)
      const worker = await takeWorker()
      try {
        return (await worker.link.api.run(kind, portable, signal)) as JobResults[K]
      } finally {
        worker.jobs--
        waiting.shift()?.()
      }
    },
    close() {
      for (const { link } of workers) link.terminate()
    },
  }
}
