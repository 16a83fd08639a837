import { isAbortError, toError } from '../errors.ts'
import type { GeneratedToken, GenerateOptions } from '../loader/index.ts'
import type { WeightedPen } from './pens.ts'
import type { ResidentPens } from './resident_pens.ts'
import type { Lease } from './shared_loader.ts'

/** A token of the manuscript with the pens that wrote it, the heaviest first. */
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

/** Writes the text of the manuscript. */
export class TextWriter {
  /** What the tokens continue. */
  prompt = ''
  tokens: WrittenToken[] = []
  writing = false
  problem = ''
  readonly #host: WriterHost
  #writing?: AbortController
  /** Ends a stretch of the text that is bound to its experts, so that the next goes on with others. */
  #stretch?: AbortController

  constructor(host: WriterHost) {
    this.#host = host
  }

  /** Writes on from a prompt until the token limit, an end token or {@link stop}. */
  async write(lease: Lease, prompt: string, options: GenerateOptions): Promise<void> {
    if (this.writing || prompt === '') return
    const controller = new AbortController()
    this.#writing = controller
    this.writing = true
    this.problem = ''
    this.prompt = prompt
    this.tokens = []
    this.#host.changed()
    for (let more = true; more; ) {
      try {
        more = await this.#writeStretch(lease, options, controller.signal)
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
    options: GenerateOptions,
    signal: AbortSignal,
  ): Promise<boolean> {
    const stretch = new AbortController()
    this.#stretch = stretch
    const text = this.tokens.map((token) => token.text).join('')
    const left = options.maxNewTokens === undefined ? undefined : options.maxNewTokens - this.tokens.length
    if (left === 0) return false
    const { residents, held } = this.#host
    try {
      const request = {
        ...options,
        // A text may grow over the context: its end is what goes on.
        truncate: 'start' as const,
        maxNewTokens: left,
        signal: AbortSignal.any([signal, stretch.signal]),
        experts: shared ? await residents.experts(loader, held()) : undefined,
      }
      for await (const token of loader.generate(this.prompt + text, request)) {
        this.tokens.push({
          text: token.text,
          pens: this.#host.pensOf(token),
          ms: token.ms,
          set: token.set,
        })
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
