/** Attempts in a row, without a token in between, to start a lost device again before the visitor is asked. */
const MAX_IN_A_ROW = 2

/** Starts the engine again after its device was lost; all who ask at the same time share one attempt. */
export class DeviceRestarts {
  /** An attempt is under way. */
  running = false
  readonly #changed: () => void
  #inARow = 0
  #attempt?: Promise<boolean>

  constructor(changed: () => void) {
    this.#changed = changed
  }

  /** @returns what `start` returns; false if it throws, or after too many attempts in a row */
  attempt(start: () => Promise<boolean>): Promise<boolean> {
    this.#attempt ??= this.#run(start).finally(() => {
      this.#attempt = undefined
    })
    return this.#attempt
  }

  /** The device works: attempts are counted anew. */
  reset(): void {
    this.#inARow = 0
  }

  async #run(start: () => Promise<boolean>): Promise<boolean> {
    if (this.#inARow >= MAX_IN_A_ROW) return false
    this.#inARow += 1
    this.running = true
    this.#changed()
    try {
      return await start()
    } catch {
      // The visitor is shown the error of the loss, not that of the restart.
      return false
    } finally {
      this.running = false
      this.#changed()
    }
  }
}
