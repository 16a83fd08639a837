import { isAbortError, toError } from '../errors.ts'
import type { ExpertChoice, GeneratedToken, GenerateOptions } from '../loader/index.ts'
import type { WeightedPen } from './pens.ts'
import type { ResidentPens } from './resident_pens.ts'
import type { Lease, SwitcherLoader } from './shared_loader.ts'

/** A token with the pens that wrote it, the heaviest first. */
export interface WrittenToken {
  text: string
  pens: readonly WeightedPen[]
  ms: number
  set: number
}

/** What the writer asks of the switcher. */
export interface WriterHost {
  readonly residents: ResidentPens
  /** The pens that the engine holds. */
  held(): readonly WeightedPen[]
  pensOf(token: GeneratedToken): readonly WeightedPen[]
  changed(): void
  onToken(token: GeneratedToken): void
  /** Whether the text can go on after this error. */
  recover(lease: Lease, error: unknown): Promise<boolean>
  onFailure(error: Error): void
}

/** The options of one call to the loader. */
type WriteRequest = GenerateOptions & { experts?: ExpertChoice; signal: AbortSignal }

/** Asks the loader for the tokens after those that are written. It is called again when a stretch of the text has ended. */
export type ReadTokens = (loader: SwitcherLoader, request: WriteRequest) => AsyncIterable<GeneratedToken>

/** Writes one text at a time, token by token: a manuscript, or an answer of a chat. */
export class TokenWriter {
  writing = false
  problem = ''
  readonly #host: WriterHost
  #writing?: AbortController
  /** Ends a stretch of the text that is bound to its experts, so that the next goes on with others. */
  #stretch?: AbortController

  constructor(host: WriterHost) {
    this.#host = host
  }

  /** Adds to `tokens` until the token limit, an end token or {@link stop}. */
  async write(
    lease: Lease,
    tokens: WrittenToken[],
    options: GenerateOptions,
    read: ReadTokens,
  ): Promise<void> {
    if (this.writing) return
    const controller = new AbortController()
    this.#writing = controller
    this.writing = true
    this.problem = ''
    const limit = options.maxNewTokens === undefined ? undefined : options.maxNewTokens + tokens.length
    this.#host.changed()
    for (let more = true; more; ) {
      const left = limit === undefined ? undefined : limit - tokens.length
      if (left === 0) break
      try {
        const request = { ...options, maxNewTokens: left }
        more = await this.#writeStretch(lease, tokens, request, read, controller.signal)
      } catch (error) {
        more = await this.#host.recover(lease, error)
        if (!more && !isAbortError(error)) {
          this.problem = toError(error).message
          this.#host.onFailure(toError(error))
        }
      }
      if (controller.signal.aborted) more = false
    }
    this.writing = false
    this.#host.changed()
  }

  /**
   * Writes until the end, or until the stretch must end. With an engine of its own, the text follows the switches of the
   * engine. With a shared engine, a stretch is bound to this switcher's experts, until {@link rebind}.
   * @returns whether the text goes on
   */
  async #writeStretch(
    { loader, shared }: Lease,
    tokens: WrittenToken[],
    options: GenerateOptions,
    read: ReadTokens,
    signal: AbortSignal,
  ): Promise<boolean> {
    const stretch = new AbortController()
    this.#stretch = stretch
    const { residents, held } = this.#host
    try {
      const request = {
        ...options,
        signal: AbortSignal.any([signal, stretch.signal]),
        experts: shared ? await residents.experts(loader, held()) : undefined,
      }
      for await (const token of read(loader, request)) {
        tokens.push({ text: token.text, pens: this.#host.pensOf(token), ms: token.ms, set: token.set })
        this.#host.onToken(token)
        this.#host.changed()
      }
    } catch (error) {
      if (!stretch.signal.aborted || signal.aborted || !isAbortError(error)) throw error
    }
    return stretch.signal.aborted && !signal.aborted
  }

  /** Goes on with the experts that are held now; called when others join the engine, or the experts change there. */
  rebind(): void {
    this.#stretch?.abort()
  }

  stop(): void {
    this.#writing?.abort()
  }
}
