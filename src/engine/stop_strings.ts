/**
 * Finds stop strings in text that comes in pieces. What may be the beginning of one is held back until it is known whether
 * it is.
 */
export class StopStrings {
  readonly #stops: readonly string[]
  #held = ''

  constructor(stops: readonly string[]) {
    this.#stops = stops
  }

  /** @returns the text that can be shown, up to the first stop string, and whether there is one */
  next(piece: string): { text: string; stopped: boolean } {
    const text = this.#held + piece
    const found = this.#stops.map((stop) => text.indexOf(stop)).filter((at) => at >= 0)
    if (found.length > 0) {
      this.#held = ''
      return { text: text.slice(0, Math.min(...found)), stopped: true }
    }
    const shown = text.length - this.#beginning(text)
    this.#held = text.slice(shown)
    return { text: text.slice(0, shown), stopped: false }
  }

  /** What was held back, once no more text comes. */
  flush(): string {
    const text = this.#held
    this.#held = ''
    return text
  }

  /** Length of the longest end of a text that a stop string begins with. */
  #beginning(text: string): number {
    const longest = Math.max(0, ...this.#stops.map((stop) => stop.length - 1))
    for (let length = Math.min(longest, text.length); length > 0; length--) {
      const end = text.slice(-length)
      if (this.#stops.some((stop) => stop.startsWith(end))) return length
    }
    return 0
  }
}
