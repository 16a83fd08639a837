import { abortError, packError } from '../errors.ts'
import type { ChunkSink } from './fetcher.ts'
import { type FileMessage, type ReceiverMessage, WINDOW_CHUNKS } from './protocol.ts'

/** The sending end of a port that `receiveFile` reads. */
export interface PortSink extends ChunkSink {
  /** Sends the end or the error, and closes the port; does nothing the second time. */
  end(error?: unknown): void
}

/**
 * Sends a file into a port, chunks by transfer, and waits while {@link WINDOW_CHUNKS} are on their way.
 * @param onCancel - called when the receiver cancels the load
 */
export function portSink(port: MessagePort, signal: AbortSignal, onCancel: () => void): PortSink {
  let room = WINDOW_CHUNKS
  let ended = false
  const waiting: (() => void)[] = []
  const post = (message: FileMessage, transfer: Transferable[] = []) => port.postMessage(message, transfer)
  const wakeAll = () => {
    for (const wake of waiting.splice(0)) wake()
  }

  port.onmessage = ({ data }: MessageEvent<ReceiverMessage>) => {
    if (data.type === 'cancel') return onCancel()
    room++
    waiting.shift()?.()
  }
  signal.addEventListener('abort', wakeAll, { once: true })

  return {
    head: (name, head) => post({ type: 'head', name, head }),
    async chunk({ index, offset, bytes }) {
      while (room === 0) {
        if (signal.aborted) throw abortError(signal)
        await new Promise<void>((resolve) => waiting.push(resolve))
      }
      if (signal.aborted) throw abortError(signal)
      room--
      post({ type: 'chunk', index, offset, bytes }, [bytes.buffer])
    },
    end(error) {
      if (ended) return
      ended = true
      post(error === undefined ? { type: 'end' } : { type: 'error', error: packError(error) })
      signal.removeEventListener('abort', wakeAll)
      port.onmessage = null
      port.close()
    },
  }
}
