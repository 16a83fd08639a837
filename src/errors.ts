/**
 * The one error family of tritswap. Every error carries a `tag` (stable, for programs), a message that says what was
 * expected, what was found and what to do, and `fields` with the same facts as data. {@link packError} and
 * {@link unpackError} carry errors between threads: comlink's own handler keeps only name, message and stack.
 *
 * @module
 */

/**
 * What went wrong, for programs.
 *
 * | tag | what happened | what to do |
 * | --- | --- | --- |
 * | `format` | a file is not what its kind should be, or is truncated | fetch it again; else make it again with the same version of tritswap |
 * | `integrity` | bytes do not have the SHA-256 that the head, the registry or the manifest promises | fetch it again; if that fails, the file on the server is another than the one that was published |
 * | `limit` | a declared size is over a limit of this implementation (`fields.limit`) | make a smaller file; the limits and their reasons are in `format/limits.ts` |
 * | `network` | a request failed after all retries (`fields.url`, and `fields.status` if a server answered) | check address, connection and CORS headers; try again if `fields.retryable` |
 * | `base` | the expert was made for another base model | load the base that the message names, or an expert made for this one |
 * | `mapping` | a tensor of the expert has no counterpart in the model | use the graph that the base was prepared with, or compress without that tensor |
 * | `unsupported` | a valid input that tritswap refuses on purpose | do what the message proposes instead |
 * | `input` | a file or option that the caller gave is wrong | correct it; the message says what was expected |
 * | `webgpu` | WebGPU is missing or lacks what is needed | use another browser or device, or turn hardware acceleration on |
 * | `device-lost` | the GPU device was lost | call again: the loader starts a new device by itself; create a new loader if it keeps happening |
 * | `memory` | a memory budget or a limit of the GPU on binding sizes would be exceeded | release experts, raise the budget, or use a smaller base or expert |
 * | `released` | the expert or loader was released before the call, or during it | load it again |
 * | `worker` | a worker could not start or has died | check that the worker script is served and that the content security policy allows it; create a new loader |
 */
export type ErrorTag =
  | 'format'
  | 'integrity'
  | 'limit'
  | 'network'
  | 'base'
  | 'mapping'
  | 'unsupported'
  | 'input'
  | 'webgpu'
  | 'device-lost'
  | 'memory'
  | 'released'
  | 'worker'

/** The facts of an error as data, which must survive a structured clone. */
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

/** Anything that was thrown, as an error. */
export function toError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown))
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
    packed.fields = cloneableFields(error.fields)
  }
  const { cause } = error
  if (cause === undefined || depth >= MAX_CAUSE_DEPTH) return packed
  packed.cause = cause instanceof Error ? packError(cause, depth + 1) : { value: cloneable(cause) }
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

/** A value as it can be sent to another thread; what cannot be (a `GPUError`, a function) becomes a text. */
export function cloneable(value: unknown): unknown {
  try {
    return structuredClone(value)
  } catch {
    const { message } = value as { message?: unknown }
    return typeof message === 'string' ? message : String(value)
  }
}

function cloneableFields(fields: ErrorFields): ErrorFields {
  return Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, cloneable(value)]))
}
