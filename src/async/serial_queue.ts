/**
 * Lets one task through at a time, in order of arrival. Forward passes and switches share one, which is what
 * makes a switch land between two tokens and never inside one.
 */
export class SerialQueue {
  #last: Promise<unknown> = Promise.resolve()

  /** Runs `task` after all tasks before it have settled; a failed task does not stop those behind it. */
  run<T>(task: () => T | Promise<T>): Promise<T> {
    const result = this.#last.then(task, task)
    this.#last = result.catch(() => {})
    return result
  }
}
