import { SerialQueue } from '../async/serial_queue.ts'
import type { EncodedPrompt, GeneratedToken, GenerationResult } from '../engine/protocol.ts'
import type { GenerationEvent } from '../engine/token_stream.ts'
import { isAbortError, toError } from '../errors.ts'

/** Tokens as they are generated, and what they came to. Nothing runs before the first is asked for, or `result` is. */
export interface Generation extends AsyncGenerator<GeneratedToken, GenerationResult, void> {
  /**
   * What the whole came to. Of a generation that was aborted, or left by its reader, it is what was read by then, with
   * `finishReason: 'aborted'`; reading tokens rejects with `AbortError` then. It rejects with any other error.
   */
  readonly result: Promise<GenerationResult>
  /** Ends it; resolves when the forward pass under way is over. */
  return(): Promise<IteratorResult<GeneratedToken, GenerationResult>>
}

export type FinishReason = GenerationResult['finishReason']

/** What the engine streams: its prompt, then tokens; the end of it says why it ended. */
export type EventStream = AsyncIterator<GenerationEvent, FinishReason | undefined>

/** Told of a generation as it is read, before its reader is. */
export interface GenerationObserver {
  onPrompt?(prompt: EncodedPrompt): void
  onToken?(token: GeneratedToken): void
  /** Called once, however it ends. */
  onEnd?(result: GenerationResult | undefined): void
}

/** A stream of the engine as its reader sees it. */
export class StreamedGeneration implements Generation {
  readonly #start: () => Promise<EventStream>
  readonly #observer: GenerationObserver
  readonly #signal: AbortSignal | undefined
  readonly #reads = new SerialQueue()
  /** Tokens that came because `result` was asked for, until their reader comes. */
  readonly #waiting: GeneratedToken[] = []
  readonly #result: Promise<GenerationResult>
  #settle!: { resolve(result: GenerationResult): void; reject(error: Error): void }
  #stream: EventStream | undefined
  #end: { result?: GenerationResult; error?: unknown } | undefined
  #prompt: EncodedPrompt = { ids: [] }
  #text = ''
  #tokens = 0
  /** ms of the first token, and of all. */
  #firstMs = 0
  #ms = 0
  #isDriven = false

  /** @param start - starts the stream; called once, when it is first read */
  constructor(start: () => Promise<EventStream>, signal?: AbortSignal, observer: GenerationObserver = {}) {
    this.#start = start
    this.#signal = signal
    this.#observer = observer
    this.#result = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject }
    })
    // Its reader learns of an error, so no one has to ask for the result.
    this.#result.catch(() => {})
  }

  get result(): Promise<GenerationResult> {
    if (!this.#isDriven) {
      this.#isDriven = true
      void this.#drive()
    }
    return this.#result
  }

  next(): Promise<IteratorResult<GeneratedToken, GenerationResult>> {
    return this.#reads.run(async () => {
      const value = this.#waiting.shift() ?? (await this.#read())
      if (value !== undefined) return { done: false, value }
      const { error, result } = this.#end!
      this.#end = { result }
      if (error !== undefined) throw error
      return { done: true, value: result as GenerationResult }
    })
  }

  return(): Promise<IteratorResult<GeneratedToken, GenerationResult>> {
    return this.#reads.run(async () => {
      this.#waiting.length = 0
      if (this.#end === undefined) {
        this.#finish('aborted')
        await this.#stream?.return?.()
      }
      return { done: true, value: this.#end!.result as GenerationResult }
    })
  }

  async throw(error: unknown): Promise<IteratorResult<GeneratedToken, GenerationResult>> {
    await this.return()
    throw error
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  /** Reads to the end; a reader that comes later gets what was read. */
  async #drive(): Promise<void> {
    for (let more = true; more; ) {
      more = await this.#reads.run(async () => {
        const token = await this.#read()
        if (token !== undefined) this.#waiting.push(token)
        return token !== undefined
      })
    }
  }

  /** The next token; undefined at the end. */
  async #read(): Promise<GeneratedToken | undefined> {
    if (this.#end !== undefined) return undefined
    try {
      this.#stream ??= await this.#start()
      for (;;) {
        const { done, value } = await this.#stream.next()
        if (done) {
          this.#finish(value ?? 'aborted')
          return undefined
        }
        if ('prompt' in value) {
          this.#prompt = value.prompt
          this.#observer.onPrompt?.(value.prompt)
          continue
        }
        this.#text += value.text
        this.#ms += value.ms
        if (this.#tokens++ === 0) this.#firstMs = value.ms
        this.#observer.onToken?.(value)
        return value
      }
    } catch (error) {
      if (isAbortError(error) || this.#signal?.aborted) this.#finish('aborted', error)
      else this.#fail(error)
      return undefined
    }
  }

  #finish(finishReason: FinishReason, error?: unknown): void {
    const { ids, truncated } = this.#prompt
    const [tokens, ms] =
      this.#tokens > 1 ? [this.#tokens - 1, this.#ms - this.#firstMs] : [this.#tokens, this.#ms]
    const result: GenerationResult = {
      text: this.#text,
      finishReason,
      usage: {
        promptTokens: ids.length,
        newTokens: this.#tokens,
        tokensPerSecond: ms > 0 ? (1000 * tokens) / ms : 0,
      },
      ...(truncated && { truncated }),
    }
    this.#end = { result, error }
    this.#observer.onEnd?.(result)
    this.#settle.resolve(result)
  }

  #fail(error: unknown): void {
    this.#end = { error }
    this.#observer.onEnd?.(undefined)
    this.#settle.reject(toError(error))
  }
}
