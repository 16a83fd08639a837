import { Worker as Thread } from 'node:worker_threads'

/**
 * A worker thread of Node with the events of a browser's `Worker`, as `connectWorker` expects one. Inside the thread,
 * `parentPort` is a `MessagePort`, which `serve` takes as it is.
 */
export function startThread(script: URL): Worker {
  return new NodeWorker(script) as EventTarget as Worker
}

class NodeWorker extends EventTarget {
  readonly #thread: Thread

  constructor(script: URL) {
    super()
    this.#thread = new Thread(script)
    this.#thread.on('message', (data: unknown) => this.dispatchEvent(new MessageEvent('message', { data })))
    this.#thread.on('messageerror', () => this.dispatchEvent(new Event('messageerror')))
    this.#thread.on('error', (error) => this.#fail(error.message, error))
    // A browser's worker lives until it is terminated; a thread that ends by itself has failed.
    this.#thread.on('exit', (code) => this.#fail(`it exited with code ${code}`))
  }

  postMessage(message: unknown, transfer?: Transferable[]): void {
    this.#thread.postMessage(message, transfer as Parameters<Thread['postMessage']>[1])
  }

  terminate(): void {
    void this.#thread.terminate()
  }

  /** Dispatches what a browser's `ErrorEvent` carries; Node 20 has no such class. */
  #fail(message: string, error?: Error): void {
    this.dispatchEvent(Object.assign(new Event('error'), { message, error }))
  }
}
