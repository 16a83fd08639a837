/**
 * How threads call each other: comlink, with what it lacks. Typed errors keep tag, fields and cause; `AbortSignal`,
 * callbacks and async iterables may be arguments or results, without leaving ports behind; a worker that dies rejects
 * what waits for it.
 *
 * ```ts
 * // worker
 * const api = { async *count(to: number, signal: AbortSignal) { … } }
 * export type Api = typeof api
 * serve(api)
 * // page
 * const link = connectWorker<Api>(new Worker(url, { type: 'module' }), 'counting worker')
 * for await (const n of await link.api.count(10, signal)) …
 * link.terminate()
 * ```
 *
 * @module
 */
export { transfer } from 'comlink'
export { release } from './arguments.ts'
export { connectWorker, type RemoteApi, type WorkerLink } from './connect.ts'
export { serve } from './serve.ts'
export { startWorker } from './start_worker.ts'
