import { abortable } from '../async/abortable.ts'
import type { FetchHandle, FetchOptions } from './pool.ts'
import { type FetchedFile, type FetchRequest, type FetchSettings, isSameFile } from './protocol.ts'
import { fetchService } from './service.ts'
import { absoluteSource } from './source_spec.ts'

interface LocalFetch {
  request: FetchRequest
  done: Promise<FetchedFile>
}

/** Loads files on the thread of its caller: a `FetchPool` without workers. */
export class LocalFetches {
  readonly #service = fetchService()
  readonly #settings: FetchSettings
  readonly #onWarning: (message: string) => void
  readonly #baseUrl: string | undefined
  readonly #stop = new AbortController()
  readonly #running = new Set<LocalFetch>()

  /** @param baseUrl - what relative addresses are relative to */
  constructor(
    settings: FetchSettings = {},
    onWarning: (message: string) => void = () => {},
    baseUrl: string | undefined = globalThis.location?.href,
  ) {
    this.#settings = settings
    this.#onWarning = onWarning
    this.#baseUrl = baseUrl
  }

  /** Starts to load a file into the port that it returns. */
  load(request: FetchRequest, { signal, onProgress = () => {} }: FetchOptions = {}): FetchHandle {
    const { port1, port2 } = new MessageChannel()
    const failed = new AbortController()
    const wanted = { ...request, source: absoluteSource(request.source, this.#baseUrl) }
    const ended = AbortSignal.any([this.#stop.signal, ...(signal ? [signal] : [])])
    const before = [...this.#running].findLast((other) => isSameFile(other.request, wanted))
    const done = this.#fetch(wanted, before, port1, ended, onProgress)
    const running = { request: wanted, done }
    this.#running.add(running)
    done
      .catch((error) => failed.abort(error))
      .finally(() => {
        this.#running.delete(running)
        if (this.#running.size === 0) this.#service.dropChunks()
      })
    return { port: port2, done, signal: failed.signal }
  }

  /** Ends the loads that are under way. */
  dispose(): void {
    this.#stop.abort(new DOMException('The loads were ended', 'AbortError'))
  }

  /** Loads of one file run one after the other: the later one takes what the earlier one fetched. */
  async #fetch(
    request: FetchRequest,
    before: LocalFetch | undefined,
    port: MessagePort,
    signal: AbortSignal,
    onProgress: NonNullable<FetchOptions['onProgress']>,
  ): Promise<FetchedFile> {
    const file = before && (await abortable(before.done, signal).catch(() => undefined))
    const settings = { ...this.#settings, priority: 'high' } as const
    const known = { ...request, rootHash: request.rootHash ?? file?.rootHash }
    return this.#service.fetch(known, port, settings, signal, onProgress, this.#onWarning)
  }
}
