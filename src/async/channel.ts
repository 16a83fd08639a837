/**
 * A bounded queue between a producer that pushes and one reader: callbacks turned into a `for await`. The producer
 * waits for {@link ready} before it makes the next value; `push` itself never waits.
 */
export class Channel<T, R = undefined> implements AsyncIterableIterator<T, R | undefined> {
  readonly #capacity: number
  readonly #onReturn: () => unknown
  #values: T[] = []
  #end: { error?: unknown; result?: R } | undefined
  #wake = () => {}
  #changed = this.#nextChange()

  /**
   * @param capacity - values that may wait for the reader
   * @param onReturn - called when the reader leaves early, which waits for the result
   */
  constructor(capacity: number, onReturn: () => unknown = () => {}) {
    this.#capacity = capacity
    this.#onReturn = onReturn
  }

  push(value: T): void {
    this.#values.push(value)
    this.#change()
  }

  /** Resolves when there is room for a value. */
  async ready(): Promise<void> {
    while (this.#values.length >= this.#capacity) await this.#changed
  }

  /** Drops what waits for the reader. */
  clear(): void {
    this.#values = []
    this.#change()
  }

  /** Ends the iteration after what was pushed, with an error if one is given. */
  close(error?: unknown): void {
    this.#end ??= { error }
    this.#change()
  }

  /** Ends the iteration after what was pushed, with what it returns. */
  finish(result: R): void {
    this.#end ??= { result }
    this.#change()
  }

  async next(): Promise<IteratorResult<T, R | undefined>> {
    while (this.#values.length === 0 && this.#end === undefined) await this.#changed
    if (this.#values.length > 0) {
      const value = this.#values.shift() as T
      this.#change()
      return { done: false, value }
    }
    const { error, result } = this.#end as { error?: unknown; result?: R }
    this.#end = {}
    if (error !== undefined) throw error
    return { done: true, value: result }
  }

  async return(): Promise<IteratorResult<T, R | undefined>> {
    this.#end = {}
    this.clear()
    await this.#onReturn()
    this.clear()
    return { done: true, value: undefined }
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  #change(): void {
    this.#wake()
    this.#changed = this.#nextChange()
  }

  #nextChange(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve
    })
  }
}
