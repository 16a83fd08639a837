import { abortError, TritswapError, unpackError } from '../errors.ts'
import type { TritHead } from '../format/head.ts'
import type { FileMessage, PayloadChunk, ReceiverMessage } from './protocol.ts'

/** A `.trit` file that is arriving from a fetch worker. */
export interface IncomingFile {
  name: string
  /** Verified against the root hash, if the request had one. */
  head: TritHead
  /**
   * Verified chunks of the payload, each once, in any order. Can be read once. Throws the error of the load; leaving
   * early cancels the load.
   */
  chunks: AsyncGenerator<PayloadChunk, void, void>
  /** Ends the load without reading the chunks; does nothing once they were read. */
  cancel(): void
}

/**
 * Reads a file from the port of `FetchPool.load`, on any thread.
 * @param signal - ends the reading. Pass `FetchHandle.signal` on: the port alone does not tell that a worker died
 * @throws {TritswapError} the error of the load
 */
export async function receiveFile(port: MessagePort, signal?: AbortSignal): Promise<IncomingFile> {
  const messages: FileMessage[] = []
  let wake = () => {}
  let failure: Error | undefined
  let closed = false

  const onAbort = () => {
    failure ??= abortError(signal)
    port.postMessage({ type: 'cancel' } satisfies ReceiverMessage)
    wake()
  }
  if (signal?.aborted) onAbort()
  else signal?.addEventListener('abort', onAbort, { once: true })
  port.onmessage = ({ data }: MessageEvent<FileMessage>) => {
    messages.push(data)
    wake()
  }
  // Browsers that fire `close` tell of a dead sender without the signal, too.
  port.addEventListener('close', () => {
    closed = true
    wake()
  })

  let ended = false
  function end() {
    ended = true
    signal?.removeEventListener('abort', onAbort)
    port.onmessage = null
    port.close()
  }

  async function next(): Promise<FileMessage> {
    for (;;) {
      if (failure) throw failure
      const message = messages.shift()
      if (message?.type === 'error') throw unpackError(message.error)
      if (message) return message
      if (closed)
        throw new TritswapError('worker', 'Cannot go on with a load: the fetch worker closed its port')
      await new Promise<void>((resolve) => {
        wake = resolve
      })
    }
  }

  async function* chunks(): AsyncGenerator<PayloadChunk, void, void> {
    let finished = false
    try {
      for (;;) {
        const message = await next()
        if (message.type !== 'chunk') {
          finished = true
          return
        }
        const { index, offset, bytes } = message
        yield { index, offset, bytes }
        // Sent only when the reader comes back for more: so a slow reader holds the network back.
        port.postMessage({ type: 'taken' } satisfies ReceiverMessage)
      }
    } catch (error) {
      finished = true
      throw error
    } finally {
      if (!finished) port.postMessage({ type: 'cancel' } satisfies ReceiverMessage)
      end()
    }
  }

  try {
    const first = await next()
    if (first.type !== 'head') {
      throw new TritswapError(
        'worker',
        `Cannot read a load: it starts with "${first.type}" instead of a head`,
      )
    }
    const cancel = () => {
      if (ended) return
      port.postMessage({ type: 'cancel' } satisfies ReceiverMessage)
      end()
    }
    return { name: first.name, head: first.head, chunks: chunks(), cancel }
  } catch (error) {
    end()
    throw error
  }
}
