/**
 * Signals and callbacks as arguments of calls: each has a port of its own, which its receiver closes.
 *
 * @module
 */
import { abortError, type PackedError, packError, unpackError } from '../errors.ts'

/** Ports of the signals and callbacks that came from the other thread. */
const ports = new WeakMap<object, MessagePort>()
/** Closes the port of a callback that has been collected. */
const collected = new FinalizationRegistry<MessagePort>(finish)

/**
 * Closes the port behind a callback or signal that came as an argument. {@link serve} does so for signals when the call
 * settles. Callbacks may be used for longer: their ports close when they are collected, or here.
 */
export function release(argument: object): void {
  const port = ports.get(argument)
  if (!port) return
  ports.delete(argument)
  collected.unregister(argument)
  finish(port)
}

function finish(port: MessagePort): void {
  port.postMessage('done')
  port.close()
}

type SignalWire = { aborted: true; reason: PackedError } | { aborted: false; port: MessagePort }

/** Sends one message, when the signal aborts. */
export function sendSignal(signal: AbortSignal): [SignalWire, Transferable[]] {
  if (signal.aborted) return [{ aborted: true, reason: packError(abortError(signal)) }, []]
  const { port1, port2 } = new MessageChannel()
  const onAbort = () => {
    port1.postMessage(packError(abortError(signal)))
    port1.close()
  }
  signal.addEventListener('abort', onAbort, { once: true })
  port1.onmessage = () => {
    signal.removeEventListener('abort', onAbort)
    port1.close()
  }
  return [{ aborted: false, port: port2 }, [port2]]
}

export function receiveSignal(wire: SignalWire): AbortSignal {
  if (wire.aborted) return AbortSignal.abort(unpackError(wire.reason))
  const controller = new AbortController()
  const { port } = wire
  port.onmessage = ({ data }: MessageEvent<PackedError>) => {
    controller.abort(unpackError(data))
    port.close()
  }
  ports.set(controller.signal, port)
  return controller.signal
}

export type Callback = (...args: unknown[]) => void

/** Arguments go one way and nothing comes back, so that a report of progress costs no round trip. */
export function sendCallback(callback: Callback): [MessagePort, Transferable[]] {
  const { port1, port2 } = new MessageChannel()
  port1.onmessage = ({ data }: MessageEvent<unknown[] | 'done'>) => {
    if (data === 'done') port1.close()
    else callback(...data)
  }
  return [port2, [port2]]
}

export function receiveCallback(port: MessagePort): Callback {
  const callback = (...args: unknown[]) => port.postMessage(args)
  ports.set(callback, port)
  collected.register(callback, port, callback)
  return callback
}
