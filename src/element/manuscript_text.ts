import type { GenerateOptions } from '../loader/index.ts'
import { textOf } from './runs.ts'
import type { Lease } from './shared_loader.ts'
import { TokenWriter, type WriterHost, type WrittenToken } from './token_writer.ts'

/** The text of the manuscript: a prompt, and the tokens that go on from it. */
export class ManuscriptText {
  prompt = ''
  tokens: WrittenToken[] = []
  readonly #writer: TokenWriter

  constructor(host: WriterHost) {
    this.#writer = new TokenWriter(host)
  }

  get writing(): boolean {
    return this.#writer.writing
  }

  get problem(): string {
    return this.#writer.problem
  }

  /** Writes on from a prompt until the token limit, an end token or {@link stop}. */
  async write(lease: Lease, prompt: string, options: GenerateOptions): Promise<void> {
    if (this.writing || prompt === '') return
    const tokens: WrittenToken[] = []
    this.prompt = prompt
    this.tokens = tokens
    await this.#writer.write(lease, tokens, options, (loader, request) =>
      // A text may grow over the context: its end is what goes on.
      loader.generate(prompt + textOf(tokens), { truncate: 'start', ...request }),
    )
  }

  stop(): void {
    this.#writer.stop()
  }

  /** As {@link TokenWriter.rebind}. */
  rebind(): void {
    this.#writer.rebind()
  }
}
