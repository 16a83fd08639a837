import { abortable } from '../async/abortable.ts'
import type { Engine } from '../engine/engine.ts'
import type { ModelInfo } from '../engine/protocol.ts'
import { isTritswapError, TritswapError } from '../errors.ts'
import { connectWorker, type RemoteApi, type WorkerLink } from '../rpc/index.ts'

export type EngineApi = RemoteApi<Engine>

export interface EngineParts {
  createWorker: () => Worker
  /** Rejects with the reason of a failed start where it knows a better one than the start's own. */
  explain: () => Promise<unknown>
  /** Opens the model in a worker that was just started. */
  open: (link: WorkerLink<Engine>, signal: AbortSignal) => Promise<ModelInfo>
  /** Brings a new engine to where the one before it was. */
  restore: (api: EngineApi) => Promise<void>
  onWarning?: (message: string) => void
}

/** The engine worker of a loader: started once, and again by the first call after it died. */
export class RunningEngine {
  readonly #parts: EngineParts
  /** Ends a start under way. */
  readonly #ended = new AbortController()
  #running: Promise<WorkerLink<Engine>> | undefined
  /** Resolves once the engine before has given its VRAM back. */
  #resting: Promise<void> = Promise.resolve()
  readonly #atRest = new WeakSet<WorkerLink<Engine>>()
  #info!: ModelInfo

  constructor(parts: EngineParts) {
    this.#parts = parts
  }

  get info(): ModelInfo {
    return this.#info
  }

  /** The engine's API; another object after each restart. @throws {TritswapError} `released` after `dispose` */
  async api(): Promise<EngineApi> {
    this.#ended.signal.throwIfAborted()
    this.#running ??= this.#begin(async () => {
      await this.#resting
      return this.#start((api) => this.#parts.restore(api))
    })
    return (await this.#running).api
  }

  /** The API of the engine that runs, if one does: for what needs no engine if it is gone. */
  async running(): Promise<EngineApi | undefined> {
    return (await this.#running?.catch(() => undefined))?.api
  }

  /** The first start. @param signal - ends it */
  async start(signal?: AbortSignal): Promise<void> {
    this.#running = this.#begin(() => this.#start(async () => {}, signal))
    await this.#running
  }

  /** As {@link dispose}, but the next call starts an engine again. */
  async rest(): Promise<void> {
    const running = this.#running
    if (running === undefined) return this.#resting
    this.#running = undefined
    this.#resting = running
      .then(async (link) => {
        this.#atRest.add(link)
        await link.api.dispose().catch(() => {})
        link.terminate(
          new TritswapError('released', 'Cannot go on: the loader was put to rest; call it again'),
        )
      })
      .catch(() => {})
    await this.#resting
  }

  /** Frees VRAM once the forward passes under way are over, and ends the worker. */
  async dispose(): Promise<void> {
    this.#ended.abort(
      new TritswapError('released', 'Cannot use this loader: it was disposed; create a new one'),
    )
    await this.#resting
    const link = await this.#running?.catch(() => undefined)
    if (!link) return
    await link.api.dispose().catch(() => {})
    link.terminate(new TritswapError('released', 'Cannot go on: the loader was disposed'))
  }

  /** A start that makes way for another one if it fails. */
  #begin(start: () => Promise<WorkerLink<Engine>>): Promise<WorkerLink<Engine>> {
    const running: Promise<WorkerLink<Engine>> = start().catch((error) => {
      if (this.#running === running) this.#running = undefined
      throw error
    })
    return running
  }

  async #start(
    restore: (api: EngineApi) => Promise<void>,
    signal?: AbortSignal,
  ): Promise<WorkerLink<Engine>> {
    const ended = AbortSignal.any([this.#ended.signal, ...(signal ? [signal] : [])])
    ended.throwIfAborted()
    const link = connectWorker<Engine>(this.#parts.createWorker(), 'engine worker', {
      isFatal: (error) => isTritswapError(error, 'device-lost'),
    })
    const stop = () => link.terminate(ended.reason as Error)
    ended.addEventListener('abort', stop, { once: true })
    try {
      // Whatever opening waits for besides the worker ends with the worker.
      const opening = AbortSignal.any([ended, link.dead])
      this.#info = await abortable(this.#parts.open(link, opening), opening)
      await abortable(restore(link.api), opening)
      link.dead.addEventListener('abort', () => this.#onDeath(link), { once: true })
      link.dead.throwIfAborted()
      return link
    } catch (error) {
      link.terminate(error as Error)
      if (!ended.aborted) await this.#parts.explain()
      throw error
    } finally {
      ended.removeEventListener('abort', stop)
    }
  }

  #onDeath(link: WorkerLink<Engine>): void {
    if (this.#ended.signal.aborted || this.#atRest.has(link)) return
    this.#parts.onWarning?.(`The engine stopped: ${(link.dead.reason as Error).message}`)
    this.#running = undefined
  }
}
