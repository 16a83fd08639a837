/**
 * Async iterables across threads: the reader asks for each value, so a slow reader holds the producer back.
 *
 * @module
 */
import { abortable } from '../async/abortable.ts'
import { SerialQueue } from '../async/serial_queue.ts'
import { type PackedError, packError, unpackError } from '../errors.ts'

type Question = 'next' | 'return'
type Answer = { value: unknown } | { done: true; result?: unknown } | { error: PackedError }

/** The async iterable that a call returned. `onEnd` is called once, when it ended, failed or was left by its reader. */
export class ServedIterable {
  readonly iterable: AsyncIterable<unknown>
  readonly onEnd: () => void

  constructor(iterable: AsyncIterable<unknown>, onEnd: () => void) {
    this.iterable = iterable
    this.onEnd = onEnd
  }
}

export function isAsyncIterable(value: unknown): value is AsyncIterable<unknown> {
  return (
    typeof value === 'object' &&
    value !== null &&
    Symbol.asyncIterator in value &&
    // The platform transfers streams itself.
    !(typeof ReadableStream !== 'undefined' && value instanceof ReadableStream)
  )
}

export function isSendable(value: unknown): value is AsyncIterable<unknown> | ServedIterable {
  return value instanceof ServedIterable || isAsyncIterable(value)
}

export function sendIterable(value: AsyncIterable<unknown> | ServedIterable): [MessagePort, Transferable[]] {
  const { iterable, onEnd } = value instanceof ServedIterable ? value : { iterable: value, onEnd: undefined }
  const { port1, port2 } = new MessageChannel()
  const iterator = iterable[Symbol.asyncIterator]()
  port1.onmessage = async ({ data }: MessageEvent<Question>) => {
    const answer = await answerOf(iterator, data)
    if ('value' in answer) return port1.postMessage(answer)
    onEnd?.()
    port1.postMessage(answer)
    port1.close()
  }
  return [port2, [port2]]
}

async function answerOf(iterator: AsyncIterator<unknown>, question: Question): Promise<Answer> {
  try {
    if (question === 'return') {
      const left = await iterator.return?.()
      return { done: true, result: left?.value }
    }
    const { done, value } = await iterator.next()
    return done ? { done, result: value } : { value }
  } catch (error) {
    return { error: packError(error) }
  }
}

/** The reading end. */
export class ReceivedIterable implements AsyncIterableIterator<unknown, unknown> {
  readonly #port: MessagePort
  /** One question at a time, so that an answer belongs to the question before it. */
  readonly #questions = new SerialQueue()
  #dead: AbortSignal | undefined
  #finished = false

  constructor(port: MessagePort) {
    this.#port = port
  }

  /** Makes reads reject with the reason of `dead` once it aborts: a dead thread does not answer. */
  rejectWhen(dead: AbortSignal): void {
    this.#dead = dead
  }

  next(): Promise<IteratorResult<unknown, unknown>> {
    return this.#questions.run(() => this.#ask('next'))
  }

  /** Never rejects: a reader that leaves has no use for what the producer's clean-up throws. */
  async return(): Promise<IteratorResult<unknown, unknown>> {
    return this.#questions.run(() => this.#ask('return')).catch(() => ({ done: true, value: undefined }))
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  async #ask(question: Question): Promise<IteratorResult<unknown, unknown>> {
    if (this.#finished) return { done: true, value: undefined }
    this.#dead?.throwIfAborted()
    if (question === 'return') this.#finished = true
    const asked = new Promise<Answer>((resolve) => {
      this.#port.onmessage = ({ data }: MessageEvent<Answer>) => resolve(data)
      this.#port.postMessage(question)
    })
    const answer = await abortable(asked, this.#dead)
    if ('value' in answer) return { done: false, value: answer.value }
    this.#finished = true
    this.#port.close()
    if ('error' in answer) throw unpackError(answer.error)
    return { done: true, value: answer.result }
  }
}
