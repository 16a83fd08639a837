/** An async iterable that one side pushes to and the other reads: callbacks turned into a `for await`. */
export interface Channel<T> extends AsyncIterable<T> {
  push(value: T): void
  /** Ends the iteration after what was pushed, with an error if one is given. */
  close(error?: unknown): void
}

export function channel<T>(): Channel<T> {
  const waiting: T[] = []
  let wake = () => {}
  let end: { error?: unknown } | undefined
  return {
    push(value) {
      waiting.push(value)
      wake()
    },
    close(error) {
      end ??= { error }
      wake()
    },
    async *[Symbol.asyncIterator]() {
      for (;;) {
        const value = waiting.shift()
        if (value !== undefined) yield value
        else if (end !== undefined) {
          if (end.error !== undefined) throw end.error
          return
        } else {
          await new Promise<void>((resolve) => {
            wake = resolve
          })
        }
      }
    },
  }
}
