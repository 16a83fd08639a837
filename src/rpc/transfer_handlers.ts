import { transferHandlers } from 'comlink'
import { cloneable, type PackedError, packError, unpackError } from '../errors.ts'
import { type Callback, receiveCallback, receiveSignal, sendCallback, sendSignal } from './arguments.ts'
import { isSendable, ReceivedIterable, sendIterable } from './iterables.ts'

type ThrownValue = { value: unknown }
type PackedThrow = { error: PackedError } | { value: unknown }

let installed = false

/**
 * Teaches comlink typed errors, `AbortSignal`, functions (one-way callbacks) and async iterables as arguments and
 * results of calls (not inside objects). Both sides need it.
 */
export function installTransferHandlers(): void {
  if (installed) return
  installed = true
  const thrown = transferHandlers.get('throw')!
  transferHandlers.set('throw', {
    canHandle: thrown.canHandle as (value: unknown) => value is ThrownValue,
    serialize: ({ value }: ThrownValue): [PackedThrow, Transferable[]] => [
      value instanceof Error ? { error: packError(value) } : { value: cloneable(value) },
      [],
    ],
    deserialize(packed: PackedThrow): never {
      throw 'error' in packed ? unpackError(packed.error) : packed.value
    },
  })
  transferHandlers.set('signal', {
    canHandle: (value: unknown): value is AbortSignal => value instanceof AbortSignal,
    serialize: sendSignal,
    deserialize: receiveSignal,
  })
  transferHandlers.set('callback', {
    canHandle: (value: unknown): value is Callback => typeof value === 'function',
    serialize: sendCallback,
    deserialize: receiveCallback,
  })
  transferHandlers.set('iterable', {
    canHandle: isSendable,
    serialize: sendIterable,
    deserialize: (port: MessagePort) => new ReceivedIterable(port),
  })
}
