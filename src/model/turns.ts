/**
 * Who may use the model next. Forward passes of calls with different experts take turns of several passes each: a switch
 * for every token would cost as much as the tokens.
 *
 * @module
 */

/** Passes that may go before one that waits for its experts. */
export const MAX_OVERTAKING = 8
/** How long the model waits for the next pass of a call whose experts are on, in the time of its last one and in ms. */
const LINGER_SHARE = 1 / 2
const MAX_LINGER = 50

/** A forward pass that waits for its turn. */
export interface WaitingPass {
  /** Whose passes come one after the other. */
  caller: object
  /** Whether the weights are as it wants them. */
  isOn(): boolean
}

interface Waiting {
  pass: WaitingPass | undefined
  start(): Promise<void>
}

/**
 * Runs tasks one at a time. Tasks other than passes keep their place: nothing that follows one goes before it, nothing before it is
 * left behind. Of the passes between two of them, those go first that need no switch, at most {@link MAX_OVERTAKING} before the
 * one that has waited longest. A call asks for its next pass when it has the last one's result, so the model waits for that a
 * little before it goes on to other experts.
 */
export class Turns {
  /** The one that has waited longest comes first. */
  readonly #waiting: Waiting[] = []
  #isBusy = false
  /** Passes that went before the one that has waited longest. */
  #overtaking = 0
  /** Whose pass ran last, while the next one is waited for. */
  #expected: object | undefined
  #lingering: ReturnType<typeof setTimeout> | undefined

  /** @param pass - what the task is, if it is a pass */
  run<T>(task: () => T | Promise<T>, pass?: WaitingPass): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const start = async () => {
        const from = performance.now()
        try {
          resolve(await task())
        } catch (error) {
          reject(error)
        }
        if (pass !== undefined) this.#expect(pass.caller, performance.now() - from)
      }
      this.#waiting.push({ pass, start })
      // What is asked for in the same turn of the event loop is seen together.
      queueMicrotask(() => this.#next())
    })
  }

  /** Says that no pass of a caller is to be waited for. */
  dismiss(caller: object): void {
    if (this.#expected !== caller) return
    this.#expectNone()
    this.#next()
  }

  #expect(caller: object, passMs: number): void {
    this.#expectNone()
    this.#expected = caller
    const ms = Math.min(MAX_LINGER, LINGER_SHARE * passMs)
    this.#lingering = setTimeout(() => this.dismiss(caller), ms)
  }

  #expectNone(): void {
    clearTimeout(this.#lingering)
    this.#expected = undefined
  }

  #next(): void {
    if (this.#isBusy) return
    const chosen = this.#choose()
    if (chosen === undefined) return
    const [{ start }] = this.#waiting.splice(chosen, 1)
    this.#overtaking = chosen === 0 ? 0 : this.#overtaking + 1
    this.#isBusy = true
    this.#expectNone()
    void start().then(() => {
      this.#isBusy = false
      this.#next()
    })
  }

  /** Place of the task whose turn it is; undefined if there is none, or one is waited for. */
  #choose(): number | undefined {
    const fixed = this.#waiting.findIndex(({ pass }) => pass === undefined)
    const passes = fixed < 0 ? this.#waiting : this.#waiting.slice(0, fixed)
    if (passes.length === 0) return fixed < 0 ? undefined : 0
    if (this.#overtaking >= MAX_OVERTAKING) return 0
    const on = passes.findIndex(({ pass }) => pass?.isOn())
    if (on >= 0) return on
    return fixed < 0 && this.#expected !== undefined ? undefined : 0
  }
}
