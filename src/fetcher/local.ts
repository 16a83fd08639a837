import { isHubName } from '../source/hf.ts'
import type { FetchHandle, FetchOptions } from './pool.ts'
import type { FetchRequest, FetchSettings } from './protocol.ts'
import { fetchService } from './service.ts'

/** Loads files on the thread of its caller: what a `FetchPool` does, where there are to be no workers. */
export class LocalFetches {
  readonly #service = fetchService()
  readonly #settings: FetchSettings
  readonly #onWarning: (message: string) => void
  readonly #stop = new AbortController()

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
    const done = this.#service.fetch(
      { ...request, source: from },
      port1,
      { ...this.#settings, priority: 'high' },
      AbortSignal.any([this.#stop.signal, ...(signal ? [signal] : [])]),
      onProgress,
      this.#onWarning,
    )
    done.catch((error) => failed.abort(error))
    return { port: port2, done, signal: failed.signal }
  }

  /** Ends the loads that are under way. */
  dispose(): void {
    this.#stop.abort(new DOMException('The loads were ended', 'AbortError'))
  }
}
