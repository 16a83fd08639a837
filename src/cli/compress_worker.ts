import { parentPort } from 'node:worker_threads'
import { type JobInputs, type JobKind, runJob } from '../compress/jobs.ts'
import { packError } from '../errors.ts'
import { type FileSource, openFile } from './file_source.ts'
import type { PathOf, PoolAnswer, PoolRequest } from './worker_pool.ts'

const files = new Map<string, Promise<FileSource>>()

parentPort?.on('message', async ({ id, kind, input }: PoolRequest) => {
  let answer: PoolAnswer
  try {
    answer = { id, result: await runJob(kind, (await withSources(input)) as JobInputs[JobKind]) }
  } catch (error) {
    answer = { id, error: packError(error) }
  }
  parentPort?.postMessage(answer, 'result' in answer ? buffersOf(answer.result) : [])
})

/** The twin of `withPaths` in worker_pool.ts. */
async function withSources(value: unknown): Promise<unknown> {
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value) || Array.isArray(value))
    return value
  if (isPath(value)) return openOnce(value.path)
  const entries = Object.entries(value).map(async ([key, item]) => [key, await withSources(item)])
  return Object.fromEntries(await Promise.all(entries))
}

function isPath(value: object): value is PathOf {
  return 'path' in value && Object.keys(value).length === 1
}

function openOnce(path: string): Promise<FileSource> {
  const open = files.get(path) ?? openFile(path)
  files.set(path, open)
  return open
}

/** Results are large arrays: handed over, not copied. */
function buffersOf(result: unknown): ArrayBuffer[] {
  const parts = ArrayBuffer.isView(result) ? [result] : Object.values(result as object)
  return parts.flatMap((part) =>
    ArrayBuffer.isView(part) && part.buffer instanceof ArrayBuffer ? [part.buffer] : [],
  )
}
