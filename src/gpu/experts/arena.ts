import { checked } from '../checked.ts'
import type { Gpu } from '../device.ts'
import { createBuffers } from '../memory.ts'

/** A run of words in the arena. `first` changes when the arena is compacted. */
export interface Span {
  first: number
  words: number
}

/**
 * One GPUBuffer for all resident experts, so that a kernel that reads eight of them needs one binding. Spans are
 * allocated first fit; when nothing fits, all of them move together into a new buffer of exactly the size needed.
 */
export class Arena {
  readonly #gpu: Gpu
  #buffer: GPUBuffer | undefined
  /** In ascending order. */
  #spans: Span[] = []
  /** How often the buffer was handed out: each time for commands that may write to it. */
  #uses = 0
  #moves = 0

  constructor(gpu: Gpu) {
    this.#gpu = gpu
  }

  /** @throws {Error} while nothing is allocated */
  get buffer(): GPUBuffer {
    if (this.#buffer === undefined) throw new Error('the arena is empty')
    this.#uses++
    return this.#buffer
  }

  /** How often spans have moved: a command that was recorded before must not be submitted after. */
  get moves(): number {
    return this.#moves
  }

  /** Size of the buffer. */
  get bytes(): number {
    return this.#buffer?.size ?? 0
  }

  /** Not reentrant: wait for one call before the next. @throws {TritswapError} `memory` */
  async allocate(words: number): Promise<Span> {
    return this.#fit(words) ?? (await this.#grow(words))
  }

  free(span: Span): void {
    this.#spans = this.#spans.filter((other) => other !== span)
    if (this.#spans.length === 0) this.destroy()
  }

  destroy(): void {
    this.#buffer?.destroy()
    this.#buffer = undefined
    this.#spans = []
  }

  #fit(words: number): Span | undefined {
    let first = 0
    for (const [i, span] of this.#spans.entries()) {
      if (span.first - first >= words) return this.#insert(i, first, words)
      first = span.first + span.words
    }
    return first + words <= this.bytes / 4 ? this.#insert(this.#spans.length, first, words) : undefined
  }

  #insert(at: number, first: number, words: number): Span {
    const span = { first, words }
    this.#spans.splice(at, 0, span)
    return span
  }

  /** Gives back room between and after the spans. Not reentrant, as {@link allocate}. @throws {TritswapError} `memory` */
  async compact(): Promise<void> {
    const used = this.#spans.reduce((sum, span) => sum + span.words, 0)
    if (used > 0 && used * 4 < this.bytes) await this.#move(0)
  }

  async #grow(words: number): Promise<Span> {
    const first = await this.#move(words)
    return this.#insert(this.#spans.length, first, words)
  }

  /**
   * Moves all spans into a new buffer with room for this many words more; they stay where they are if that fails.
   * @returns the first word of that room
   */
  async #move(words: number): Promise<number> {
    const needed = this.#spans.reduce((sum, span) => sum + span.words, words)
    const [grown] = await createBuffers(this.#gpu, 'the resident experts', [needed * 4])
    try {
      // What is written to the old buffer while the device checks a copy is not in it: then another one is made. Uploads
      // end, so this does.
      for (;;) {
        const uses = this.#uses
        const spans = [...this.#spans]
        if (this.#buffer !== undefined) await this.#copyTo(grown, this.#buffer, spans)
        if (uses === this.#uses && spans.every((span) => this.#spans.includes(span))) break
      }
    } catch (error) {
      grown.destroy()
      throw error
    }
    this.#moves++
    let first = 0
    for (const span of this.#spans) {
      span.first = first
      first += span.words
    }
    this.#buffer?.destroy()
    this.#buffer = grown
    return first
  }

  /** Copies spans one after another. */
  #copyTo(grown: GPUBuffer, old: GPUBuffer, spans: readonly Span[]): Promise<void> {
    const { device } = this.#gpu
    return checked(this.#gpu, 'move the resident experts', () => {
      const encoder = device.createCommandEncoder()
      let first = 0
      for (const span of spans) {
        encoder.copyBufferToBuffer(old, span.first * 4, grown, first * 4, span.words * 4)
        first += span.words
      }
      device.queue.submit([encoder.finish()])
    })
  }
}
