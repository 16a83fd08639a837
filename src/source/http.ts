import {
  failed,
  isSameOrigin,
  mayBeCached,
  mayPass,
  type OpenRequest,
  openRequest,
  statusError,
} from './http_request.ts'
import type { ByteSource, ReadOptions, StreamOptions } from './source.ts'
import { collect } from './stream.ts'

/** Counts what comes over the network. */
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
  /** A request is given up when the server sends nothing for this long (30 s by default), however long it takes in all. */
  silenceMs?: number
  meter?: Meter
  /** Host of `hf:` names: a mirror of the Hugging Face Hub. */
  hub?: string
}

/** Which part of the file a response body is, as far as the headers say. */
interface Extent {
  start: number
  /** Offset after the last promised byte. */
  end?: number
  /** Size of the whole file. */
  total?: number
}

/**
 * A file behind a URL, read by Range requests (RFC 9110 section 14). From a server that ignores Range, the file is read
 * from its start. Errors that may pass say so in `fields.retryable` and `fields.retryAfterMs`: see `withRetry`.
 *
 * Lengths and ETags are only hints: other origins hide them, and some servers get them wrong. The hashes in the file
 * decide.
 */
export function httpSource(
  url: string,
  { fetch = globalThis.fetch, silenceMs = 30_000, meter }: HttpOptions = {},
): ByteSource {
  let total: number | undefined
  let etag: string | undefined
  let seekable: boolean | undefined
  /** False where the server compresses: a part of a compressed body cannot be decoded. */
  let ranges = true
  let answered = false
  /** A body broke off before its end. */
  let broken = false
  /** The browser's cache may have led to a failure: by a redirect to an address that has expired, or an old error. */
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
      // Without ranges the next read would start at byte 0 again: better to read on past `end`.
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
      // Only after a body has come is what the browser caches of the file surely from this server.
      if (body) broken = true
      throw request.explain(error)
    } finally {
      // A body that is read to its end frees the connection for the next request; any other is cancelled.
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
      // On another origin this header would cost a preflight.
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
      // Chromium fails when a server compresses its answer to a Range request: the next try does it the other way.
      if (!answered) ranges = !ranges
      if (cache === 'force-cache') distrusted = true
      throw error
    })
    answered = true
    const { status } = response
    if (status === 206 && isEncoded(response)) {
      // Ask for the whole body: a part cannot be decoded.
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
      distrusted = true
      // The browser may have cached a redirect that is no longer valid, or an error that has passed.
      const isStale = (cache === 'force-cache' && response.redirected) || mayBeCached(response)
      if (cache !== 'reload' && isStale && !mayPass(status)) return ask(request, offset, options)
      throw statusError(url, response, offset)
    }
    const tag = response.headers.get('ETag')
    if (tag?.startsWith('"')) etag ??= tag
    return response
  }

  /**
   * The rest of a file comes from the browser's cache as far as it is there, without asking the server. When a connection
   * breaks, what was received and not yet read is lost to the page, but the cache has it. The hashes tell if it is stale.
   */
  function cacheMode(offset: number, { fresh }: StreamOptions): RequestCache {
    if (fresh || distrusted) return 'reload'
    return offset > 0 || broken ? 'force-cache' : 'default'
  }

  function extentOf(response: Response, offset: number): Extent {
    if (response.status === 200) {
      const length = Number(response.headers.get('Content-Length') ?? Number.NaN)
      // If the body is compressed, this is not the length of the file; other origins hide whether it is.
      if (Number.isSafeInteger(length) && isSameOrigin(response.url || url) && !isEncoded(response))
        total = length
      return { start: 0, total }
    }
    const header = response.headers.get('Content-Range')
    // Other origins hide the header unless they expose it.
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

/** Stops reading a body; not to be awaited. */
async function leave(body: ReadableStreamDefaultReader | undefined, complete: boolean): Promise<void> {
  try {
    if (!complete || !(await body?.read())?.done) await body?.cancel()
  } catch {
    // The body failed before: the read that met the error has thrown it.
  }
}

/** The part of a piece at `at` that lies in `[from, to)`. */
function within(piece: Uint8Array<ArrayBuffer>, at: number, from: number, to: number) {
  return piece.subarray(Math.max(0, from - at), Math.max(0, to - at))
}

function isEncoded(response: Response): boolean {
  const encoding = response.headers.get('Content-Encoding')
  return encoding !== null && encoding !== 'identity' && encoding !== ''
}
