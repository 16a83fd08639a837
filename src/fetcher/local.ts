import { isHubName } from '../source/hf.ts'
import type { FetchHandle, FetchOptions } from './pool.ts'
import { type FetchedFile, type FetchRequest, type FetchSettings, isSameFile } from './protocol.ts'
import { fetchService } from './service.ts'

interface LocalFetch {
  request: FetchRequest
  done: Promise<FetchedFile>
}

/** Loads files on the thread of its caller: what a `FetchPool` does, where there are to be no workers. */
export class LocalFetches {
  readonly #service = fetchService()
  readonly #settings: FetchSettings
  readonly #onWarning: (message: string) => void
  readonly #stop = new AbortController()
  readonly #running = new Set<LocalFetch>()

  constructor(settings: FetchSettings = {}, onWarning: (message: string) => void = () => {}) {
    this.#settings = settings
    this.#onWarning = onWarning
  }

  /** Starts to load a file towards the port that it returns. */
  load(
    { source, ...request }: FetchRequest,
    { signal, onProgress = () => {} }: FetchOptions = {},
  ): FetchHandle {
    const { port1, port2 } = new MessageChannel()
    const failed = new AbortController()
    const from =
      (typeof source === 'string' && !isHubName(source)) || source instanceof URL
        ? new URL(source, globalThis.document?.baseURI ?? globalThis.location?.href).href
        : source
    const wanted = { ...request, source: from }
    const ended = AbortSignal.any([this.#stop.signal, ...(signal ? [signal] : [])])
    const before = [...this.#running].findLast((other) => isSameFile(other.request, wanted))
    const done = this.#fetch(wanted, before, port1, ended, onProgress)
    const running = { request: wanted, done }
    this.#running.add(running)
    done
      .catch((error) => failed.abort(error))
      .finally(() => {
        this.#running.delete(running)
        if (this.#running.size === 0) this.#service.forget()
      })
    return { port: port2, done, signal: failed.signal }
  }

  /** Ends the loads that are under way. */
  dispose(): void {
    this.#stop.abort(new DOMException('The loads were ended', 'AbortError'))
  }

  /** In turn: the later load of a file takes what the earlier one fetched. */
  async #fetch(
    request: FetchRequest,
    before: LocalFetch | undefined,
    port: MessagePort,
    signal: AbortSignal,
    onProgress: NonNullable<FetchOptions['onProgress']>,
  ): Promise<FetchedFile> {
    const file = before && (await unlessAborted(before.done, signal))
    const settings = { ...this.#settings, priority: 'high' } as const
    const known = { ...request, rootHash: request.rootHash ?? file?.rootHash }
    return this.#service.fetch(known, port, settings, signal, onProgress, this.#onWarning)
  }
}

/** What a load came to; undefined if it failed, or as soon as the signal aborts. */
function unlessAborted(load: Promise<FetchedFile>, signal: AbortSignal): Promise<FetchedFile | undefined> {
  return new Promise((resolve) => {
    const onAbort = () => resolve(undefined)
    if (signal.aborted) return onAbort()
    signal.addEventListener('abort', onAbort, { once: true })
    load.then(resolve, onAbort).finally(() => signal.removeEventListener('abort', onAbort))
  })
}
