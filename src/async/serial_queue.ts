/** Runs tasks one at a time, in order of arrival. */
export class SerialQueue {
  #last: Promise<unknown> = Promise.resolve()

  /** Runs `task` once all tasks before it have settled; one that fails does not stop those after it. */
  run<T>(task: () => T | Promise<T>): Promise<T> {
    const result = this.#last.then(task)
    this.#last = result.catch(() => {})
    return result
  }
}
