/**
 * A thread of the worker pool: runs compression jobs on files, which it opens itself.
 *
 * @module
 */
import { parentPort } from 'node:worker_threads'
import type { Endpoint } from 'comlink'
import type { JobInputs, JobKind, JobResults } from '../compress/jobs.ts'
import { runJob } from '../compress/passes.ts'
import { serve, transfer } from '../rpc/index.ts'
import { withSources } from './job_paths.ts'

const api = {
  /** @param input - the input of the job with paths in place of its sources */
  async run(kind: JobKind, input: object, signal?: AbortSignal): Promise<JobResults[JobKind]> {
    const result = await runJob(kind, (await withSources(input)) as JobInputs[JobKind], signal)
    return transfer(result, buffersOf(result))
  },
}

export type CompressWorker = typeof api

/** Results are large arrays: handed over, not copied. */
function buffersOf(result: JobResults[JobKind]): ArrayBuffer[] {
  const parts: unknown[] = ArrayBuffer.isView(result) ? [result] : Object.values(result)
  return parts.flatMap((part) =>
    ArrayBuffer.isView(part) && part.buffer instanceof ArrayBuffer ? [part.buffer] : [],
  )
}

serve(api, parentPort as unknown as Endpoint)
