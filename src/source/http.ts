import { abortError, TritswapError } from '../errors.ts'
import { shortSource } from './memory.ts'
import type { ByteSource, ReadOptions, StreamOptions } from './source.ts'
import { collect } from './stream.ts'

/** Counts what went over the network. */
export interface Meter {
  requests: number
  /** Body bytes received, used or not. */
  bytes: number
  /** Called after each piece. */
  onBytes?(): void
}

export interface HttpOptions {
  /** For tests. */
  fetch?: typeof globalThis.fetch
  /** A request that sends nothing for so long is given up. Its whole length does not matter. */
  silenceMs?: number
  meter?: Meter
  /** Where `hf:` names lead. */
  hub?: string
}

/** Where a response body lies in the file, as far as its headers tell. */
interface Extent {
  start: number
  /** After the last byte promised. */
  end?: number
  /** Bytes of the whole file. */
  total?: number
}

/**
 * A file behind a URL, read by Range requests (RFC 9110 section 14). A server that ignores Range is read from the start
 * on. Errors that may pass say so in `fields.retryable` and `fields.retryAfterMs`: see `withRetry`.
 *
 * Lengths and ETags are only hints here, for other origins hide them and servers get them wrong: the hashes decide.
 */
export function httpSource(
  url: string,
  { fetch = globalThis.fetch, silenceMs = 30_000, meter }: HttpOptions = {},
): ByteSource {
  let total: number | undefined
  let etag: string | undefined
  let seekable: boolean | undefined
  /** False where the server compresses: ranges of that cannot be decoded. */
  let ranges = true
  let answered = false
  /** A body broke off. */
  let broken = false
  /** What caches on the way say leads nowhere, as a redirect to an address that has expired. */
  let distrusted = false

  async function* stream(
    offset: number,
    options: StreamOptions = {},
  ): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
    const { end, signal } = options
    if (end !== undefined && end <= offset) return
    const request = openRequest(url, signal, silenceMs)
    let body: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>> | undefined
    let extent: Extent = { start: 0 }
    let received = 0
    let stop = Infinity
    try {
      const response = await ask(request, offset, options)
      extent = extentOf(response, offset)
      // Who cannot seek reads on past `end`, rather than from the start again.
      if (seekable !== false) stop = end ?? Infinity
      body = response.body?.getReader()
      while (body) {
        const step = await request.heard(body.read())
        if (step.done) break
        if (meter) meter.bytes += step.value.length
        meter?.onBytes?.()
        const at = extent.start + received
        received += step.value.length
        const piece = within(step.value, at, offset, Math.min(stop, extent.end ?? Infinity))
        if (piece.length > 0) yield piece
        if (extent.start + received >= stop) return
      }
      const reached = extent.start + received
      const wanted = Math.min(end ?? Infinity, total ?? Infinity)
      const promised = Math.max(extent.end ?? 0, Number.isFinite(wanted) ? wanted : 0)
      if (reached < promised) {
        throw failed(url, `the connection ended at byte ${reached} of ${promised}`, {
          retryable: true,
          offset: reached,
        })
      }
    } catch (error) {
      // Only then is what a cache has of the file surely what this server sent.
      if (body) broken = true
      throw request.explain(error)
    } finally {
      // A body read to its end leaves the connection for the next request; any other is cut.
      const complete = extent.end !== undefined && extent.start + received >= extent.end
      void leave(body, complete)
      request.close()
    }
  }

  /** Sends the request and checks status and headers. */
  async function ask(request: OpenRequest, offset: number, options: StreamOptions): Promise<Response> {
    const headers: Record<string, string> = {}
    if (ranges) {
      headers.Range = `bytes=${offset}-${options.end === undefined ? '' : options.end - 1}`
      // Elsewhere it would cost a preflight.
      if (offset > 0 && etag !== undefined && isSameOrigin(url)) headers['If-Range'] = etag
    }
    if (meter) meter.requests++
    const cache = cacheMode(offset, options)
    const asked = fetch(url, {
      headers,
      signal: request.signal,
      priority: options.priority === 'low' ? 'low' : 'auto',
      cache,
    })
    const response = await request.heard(asked).catch((error: unknown) => {
      // Chromium fails where a server compresses its answer to a Range request: try the other way next time.
      if (!answered) ranges = !ranges
      if (cache === 'force-cache') distrusted = true
      throw error
    })
    answered = true
    const { status } = response
    if (status === 206 && isEncoded(response)) {
      // A part of a compressed body cannot be decoded: ask for all of it.
      await response.body?.cancel()
      ranges = false
      return ask(request, offset, options)
    }
    if (status === 200) {
      if (!isEncoded(response)) ranges = true
      if ('Range' in headers || !ranges) seekable = false
      const now = response.headers.get('ETag')
      if ('If-Range' in headers && now !== null && now !== etag) {
        await response.body?.cancel()
        throw failed(url, `it changed on the server (ETag ${etag}, now ${now}); load it again`, { status })
      }
    } else if (status === 206) {
      seekable = true
    } else {
      await response.body?.cancel()
      // The redirect may be one that a cache kept for too long.
      if (cache === 'force-cache' && response.redirected) {
        distrusted = true
        if (!mayPass(status)) return ask(request, offset, options)
      }
      throw statusError(url, response, offset)
    }
    const tag = response.headers.get('ETag')
    if (tag?.startsWith('"')) etag ??= tag
    return response
  }

  /**
   * The rest of a file comes out of the browser's cache as far as it is there, without asking the server: a connection
   * that breaks takes along what was received and not yet read, but the cache has it. The hashes tell if it is stale.
   */
  function cacheMode(offset: number, { fresh }: StreamOptions): RequestCache {
    if (fresh || distrusted) return 'reload'
    return offset > 0 || broken ? 'force-cache' : 'default'
  }

  function extentOf(response: Response, offset: number): Extent {
    if (response.status === 200) {
      const length = Number(response.headers.get('Content-Length') ?? Number.NaN)
      // Other origins do not tell whether they compress, and then this is not the length of the file.
      if (Number.isSafeInteger(length) && isSameOrigin(response.url || url) && !isEncoded(response))
        total = length
      return { start: 0, total }
    }
    const header = response.headers.get('Content-Range')
    // Hidden by other origins that do not expose it.
    if (header === null) return { start: offset }
    const match = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(header)
    if (!match || Number(match[1]) !== offset || Number(match[2]) < offset) {
      throw failed(url, `the server answered a request for bytes from ${offset} with "${header}"`, {
        status: 206,
      })
    }
    if (match[3] !== '*') total = Number(match[3])
    return { start: offset, end: Number(match[2]) + 1, total }
  }

  return {
    name: url,
    get seekable() {
      return seekable
    },
    size: async () => total,
    read: (offset, length, options?: ReadOptions) =>
      collect(stream(offset, { ...options, end: offset + length }), url, offset, length),
    stream,
  }
}

/** Ends the reading of a body: nobody waits for it. */
async function leave(body: ReadableStreamDefaultReader | undefined, complete: boolean): Promise<void> {
  try {
    if (!complete || !(await body?.read())?.done) await body?.cancel()
  } catch {
    // It failed already, and was reported by whoever read it.
  }
}

/** The part of a piece at `at` that lies in `[from, to)`. */
function within(piece: Uint8Array<ArrayBuffer>, at: number, from: number, to: number) {
  return piece.subarray(Math.max(0, from - at), Math.max(0, to - at))
}

/** One request's abort and silence timer. */
interface OpenRequest {
  signal: AbortSignal
  /** Awaits something of the network, but not longer than the server may be silent. */
  heard<T>(answer: Promise<T>): Promise<T>
  /** The error to throw for one that came out of `fetch` or the body. */
  explain(error: unknown): unknown
  close(): void
}

function openRequest(url: string, signal: AbortSignal | undefined, silenceMs: number): OpenRequest {
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

function failed(url: string, what: string, fields: Record<string, unknown>, cause?: unknown): TritswapError {
  return new TritswapError('network', `Cannot fetch ${url}: ${what}`, { fields: { url, ...fields }, cause })
}

function statusError(url: string, response: Response, offset: number): TritswapError {
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

/** Whether a later try may do better. */
function mayPass(status: number): boolean {
  return status === 408 || status === 425 || status === 429 || status >= 500
}

/** ms that a `Retry-After` header asks for: seconds or a date. */
function retryAfter(header: string | null): number | undefined {
  if (header === null) return undefined
  const ms = /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now()
  return Number.isNaN(ms) ? undefined : Math.max(0, ms)
}

function isEncoded(response: Response): boolean {
  const encoding = response.headers.get('Content-Encoding')
  return encoding !== null && encoding !== 'identity' && encoding !== ''
}

/** Browsers do not tell a broken connection from an answer that they keep from the page. */
function corsHint(url: string): string {
  if (isSameOrigin(url)) return ''
  return `, or the server does not let this page read its answers (CORS): it must send "Access-Control-Allow-Origin: *" or "Access-Control-Allow-Origin: ${location.origin}", also with errors; the browser's console tells which it was`
}

/** Node has no origin, and no CORS either. */
function isSameOrigin(url: string): boolean {
  const { location } = globalThis
  return location === undefined || new URL(url, location.href).origin === location.origin
}
