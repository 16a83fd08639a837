import type { GenerateOptions } from '../loader/index.ts'
import { textOf } from './runs.ts'
import type { Lease } from './shared_loader.ts'
import { TokenWriter, type WriterHost, type WrittenToken } from './token_writer.ts'

/** Texts that can be brought back. */
const MAX_EARLIER = 50

/** The text of the manuscript: a prompt, and the tokens that go on from it. */
export class ManuscriptText {
  prompt = ''
  tokens: WrittenToken[] = []
  readonly #writer: TokenWriter
  /** What stood here before, the last text at the end. */
  #earlier: readonly { prompt: string; tokens: WrittenToken[] }[] = []

  constructor(host: WriterHost) {
    this.#writer = new TokenWriter(host)
  }

  get writing(): boolean {
    return this.#writer.writing
  }

  get problem(): string {
    return this.#writer.problem
  }

  get canUndo(): boolean {
    return this.#earlier.length > 0
  }

  /** Writes on from a prompt until the token limit, an end token or {@link stop}. */
  async write(lease: Lease, prompt: string, options: GenerateOptions): Promise<void> {
    if (prompt !== '') await this.#write(lease, prompt, [], options)
  }

  /** Writes on from the end of what is written. */
  async goOn(lease: Lease, options: GenerateOptions): Promise<void> {
    if (this.prompt !== '') await this.#write(lease, this.prompt, [...this.tokens], options)
  }

  async #write(
    lease: Lease,
    prompt: string,
    tokens: WrittenToken[],
    options: GenerateOptions,
  ): Promise<void> {
    if (this.writing) return
    if (this.tokens.length > 0) {
      this.#earlier = [...this.#earlier, { prompt: this.prompt, tokens: this.tokens }].slice(-MAX_EARLIER)
    }
    this.prompt = prompt
    this.tokens = tokens
    await this.#writer.write(lease, tokens, options, (loader, request) =>
      // A text may grow over the context: its end is what goes on.
      loader.generate(prompt + textOf(tokens), { truncate: 'start', ...request }),
    )
  }

  /** Brings back the text as it was before the last {@link write} or {@link goOn}. */
  undo(): void {
    const last = this.#earlier.at(-1)
    if (this.writing || last === undefined) return
    this.#earlier = this.#earlier.slice(0, -1)
    this.prompt = last.prompt
    this.tokens = last.tokens
  }

  stop(): void {
    this.#writer.stop()
  }

  /** As {@link TokenWriter.rebind}. */
  rebind(): void {
    this.#writer.rebind()
  }
}
