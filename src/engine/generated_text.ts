import { IncrementalText } from './incremental_text.ts'
import { StopStrings } from './stop_strings.ts'

/** The text of tokens as they are generated, up to a stop string. */
export class GeneratedText {
  readonly #text: IncrementalText
  readonly #stops: StopStrings
  /** Text of the tokens that it began with, without what is held back of it. */
  readonly shown: string
  stopped = false

  /** @param answer - tokens of a text that goes on: they may end inside a character, or inside a stop string */
  constructor(
    decode: (tokens: number[]) => string,
    stops: readonly string[],
    answer: readonly number[] = [],
  ) {
    this.#text = new IncrementalText(decode)
    this.#stops = new StopStrings(stops)
    const whole = answer.map((token) => this.#text.next(token)).join('')
    const { text, stopped } = this.#stops.next(whole)
    this.shown = stopped ? whole : text
  }

  next(token: number): string {
    return this.#upToStop(this.#text.next(token))
  }

  /** What was held back, once no more tokens come. */
  flush(): string {
    const rest = this.#upToStop(this.#text.flush())
    return this.stopped ? rest : rest + this.#stops.flush()
  }

  #upToStop(piece: string): string {
    const { text, stopped } = this.#stops.next(piece)
    this.stopped ||= stopped
    return text
  }
}
