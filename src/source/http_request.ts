import { abortError, TritswapError } from '../errors.ts'
import { shortSource } from './memory.ts'

/** One request: its abort, and a timer for the server's silence. */
export interface OpenRequest {
  signal: AbortSignal
  /** Waits for headers or the next piece of the body, but no longer than the server may be silent. */
  heard<T>(answer: Promise<T>): Promise<T>
  /** The error to throw in place of one that `fetch` or the body threw. */
  explain(error: unknown): unknown
  close(): void
}

export function openRequest(url: string, signal: AbortSignal | undefined, silenceMs: number): OpenRequest {
  signal?.throwIfAborted()
  const controller = new AbortController()
  const onAbort = () => controller.abort(abortError(signal))
  signal?.addEventListener('abort', onAbort, { once: true })
  let silent = false
  return {
    signal: controller.signal,
    async heard(answer) {
      const timer = setTimeout(() => {
        silent = true
        controller.abort()
      }, silenceMs)
      try {
        return await answer
      } finally {
        clearTimeout(timer)
      }
    },
    explain(error) {
      if (signal?.aborted) return abortError(signal)
      if (silent) return failed(url, `the server sent nothing for ${silenceMs / 1000} s`, { retryable: true })
      if (error instanceof TritswapError) return error
      return failed(url, `the connection failed${corsHint(url)}`, { retryable: true }, error)
    },
    close: () => signal?.removeEventListener('abort', onAbort),
  }
}

/** The error of a request. `fields.retryable` says whether a later try may do better: see `withRetry`. */
export function failed(
  url: string,
  what: string,
  fields: Record<string, unknown>,
  cause?: unknown,
): TritswapError {
  return new TritswapError('network', `Cannot fetch ${url}: ${what}`, { fields: { url, ...fields }, cause })
}

/** The error for a status that is neither 200 nor 206. */
export function statusError(url: string, response: Response, offset: number): TritswapError {
  const { status, statusText } = response
  if (status === 416) {
    const size = /\/(\d+)$/.exec(response.headers.get('Content-Range') ?? '')?.[1]
    return shortSource(url, offset, 1, size === undefined ? offset : Number(size))
  }
  const fields: Record<string, unknown> = { status, retryable: mayPass(status) }
  const after = retryAfter(response.headers.get('Retry-After'))
  if (after !== undefined) fields.retryAfterMs = after
  return failed(url, `the server answered ${status}${statusText === '' ? '' : ` ${statusText}`}`, fields)
}

/** Whether a status is one that a later try may not meet again. */
export function mayPass(status: number): boolean {
  return status === 408 || status === 425 || status === 429 || status >= 500
}

/**
 * Whether a status says that a file is not there, as far as a page can tell: a bucket that may not be listed answers 403
 * for what it does not have, and the Hugging Face Hub 401.
 */
export function isAbsence(status: number): boolean {
  return status >= 400 && status < 500 && !mayPass(status)
}

/** Whether the browser may have had an answer in its HTTP cache: by RFC 9111, one that tells how long it is fresh. */
export function mayBeCached({ headers }: Response): boolean {
  const control = headers.get('Cache-Control') ?? ''
  if (/\bno-(store|cache)\b/i.test(control)) return false
  return /\bmax-age="?0*[1-9]/i.test(control) || (headers.get('Expires') ?? '') !== ''
}

/** `fetch`, but an error that may come from the browser's cache is asked for once more, past all caches. */
export async function fetchPastErrors(url: string, init: RequestInit = {}): Promise<Response> {
  const response = await fetch(url, init)
  if (response.ok || !mayBeCached(response)) return response
  await response.body?.cancel()
  return fetch(url, { ...init, cache: 'reload' })
}

/** The wait that a `Retry-After` header asks for, in ms; the header holds seconds or a date. */
function retryAfter(header: string | null): number | undefined {
  if (header === null) return undefined
  const ms = /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now()
  return Number.isNaN(ms) ? undefined : Math.max(0, ms)
}

/** To a page, a broken connection looks the same as an answer that the browser withholds from it. */
function corsHint(url: string): string {
  if (isSameOrigin(url)) return ''
  return `, or the server does not let this page read its answers (CORS): it must send "Access-Control-Allow-Origin: *" or "Access-Control-Allow-Origin: ${location.origin}", also with errors; the browser's console tells which it was`
}

/** True in Node, which has no origin and no CORS. */
export function isSameOrigin(url: string): boolean {
  const { location } = globalThis
  if (location === undefined) return true
  // In a sandboxed frame `location` has the origin of the address, but the frame's own is another: `null`.
  return new URL(url, location.href).origin === (globalThis.origin ?? location.origin)
}
