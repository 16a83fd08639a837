/**
 * The one error family of tritswap. Every error carries a `tag` (stable, for programs), a message that says
 * what was expected, what was found and what to do, and `fields` with the same facts as data.
 * `pack`/`unpack` carry them between threads: comlink's own handler keeps only name, message and stack.
 *
 * @module
 */

/** What each tag means; the constructor of {@link TritswapError} accepts nothing else. */
export const ERROR_TAGS = {
  format: 'the bytes are not a valid .trit file',
  integrity: 'bytes do not have the SHA-256 that was promised',
  limit: 'a declared size is over a limit of this implementation',
  network: 'a request failed',
  base: 'the expert was made for another base model',
  mapping: 'a tensor of the expert has no place in the model',
  unsupported: 'a valid input that tritswap refuses on purpose',
  input: 'a file or option given by the caller is wrong',
  webgpu: 'WebGPU is missing or cannot do what is needed',
  'device-lost': 'the GPU device was lost',
  memory: 'a memory budget or a binding limit would be exceeded',
  released: 'the expert or loader was released already',
  worker: 'a worker died or could not start',
} as const

export type ErrorTag = keyof typeof ERROR_TAGS

/** Facts of an error as data: they must survive a structured clone. */
export type ErrorFields = Record<string, unknown>

export class TritswapError extends Error {
  override readonly name = 'TritswapError'
  readonly tag: ErrorTag
  readonly fields: ErrorFields

  constructor(tag: ErrorTag, message: string, options: { fields?: ErrorFields; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.tag = tag
    this.fields = options.fields ?? {}
  }
}

/** True for a {@link TritswapError}, of one tag if given. Works across bundles, which `instanceof` does not. */
export function isTritswapError(error: unknown, tag?: ErrorTag): error is TritswapError {
  if (!(error instanceof Error) || error.name !== 'TritswapError' || !('tag' in error)) return false
  return tag === undefined || error.tag === tag
}

/** The error that an aborted call rejects with: the signal's own reason if it is an error, else `AbortError`. */
export function abortError(signal?: AbortSignal): Error {
  const reason: unknown = signal?.reason
  return reason instanceof Error ? reason : new DOMException('The operation was aborted', 'AbortError')
}

export function isAbortError(error: unknown): boolean {
  return error instanceof Error && error.name === 'AbortError'
}

/** An error as plain data, as deep as its causes go. */
export interface PackedError {
  name: string
  message: string
  stack?: string
  tag?: ErrorTag
  fields?: ErrorFields
  cause?: PackedError | { value: unknown }
}

const MAX_CAUSE_DEPTH = 8

export function packError(error: unknown, depth = 0): PackedError {
  if (!(error instanceof Error)) return { name: 'Error', message: String(error) }
  const packed: PackedError = { name: error.name, message: error.message, stack: error.stack }
  if (isTritswapError(error)) {
    packed.tag = error.tag
    packed.fields = error.fields
  }
  if (error.cause !== undefined && depth < MAX_CAUSE_DEPTH) {
    packed.cause =
      error.cause instanceof Error ? packError(error.cause, depth + 1) : { value: cloneable(error.cause) }
  }
  return packed
}

export function unpackError(packed: PackedError): Error {
  const cause =
    packed.cause === undefined
      ? undefined
      : 'value' in packed.cause
        ? packed.cause.value
        : unpackError(packed.cause)
  let error: Error
  if (packed.tag !== undefined) {
    error = new TritswapError(packed.tag, packed.message, { fields: packed.fields, cause })
  } else if (packed.name === 'AbortError' || packed.name === 'TimeoutError') {
    error = new DOMException(packed.message, packed.name)
  } else {
    error = new Error(packed.message, cause === undefined ? undefined : { cause })
    if (packed.name !== 'Error')
      Object.defineProperty(error, 'name', { value: packed.name, configurable: true })
  }
  if (packed.stack !== undefined) {
    Object.defineProperty(error, 'stack', { value: packed.stack, configurable: true, writable: true })
  }
  return error
}

function cloneable(value: unknown): unknown {
  return typeof value === 'function' || typeof value === 'symbol' ? String(value) : value
}
