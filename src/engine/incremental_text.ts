/**
 * Text of a growing token list, piece by piece. Only the last two pieces are decoded again (a tokenizer's decoder
 * looks at its neighbours); a piece waits while it ends inside a UTF-8 sequence.
 */
export class IncrementalText {
  readonly #decode: (tokens: number[]) => string
  readonly #tokens: number[] = []
  #context = 0
  #shown = 0

  constructor(decode: (tokens: number[]) => string) {
    this.#decode = decode
  }

  next(token: number): string {
    this.#tokens.push(token)
    const text = this.#unshown()
    if (text.endsWith('\ufffd')) return ''
    this.#context = this.#shown
    this.#shown = this.#tokens.length
    return text
  }

  /** What waits for the rest of its UTF-8 sequence, once no more tokens come. */
  flush(): string {
    const text = this.#unshown()
    this.#context = this.#shown = this.#tokens.length
    return text
  }

  #unshown(): string {
    const before = this.#decode(this.#tokens.slice(this.#context, this.#shown))
    return this.#decode(this.#tokens.slice(this.#context)).slice(before.length)
  }
}
