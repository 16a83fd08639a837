/**
 * A file server that fails on purpose, over real HTTP on loopback: what servers, proxies and lines do to a
 * download, one fault at a time, with everything that was asked of it on record. In this process faults are scripted by
 * functions; a page puts files with PUT (`?redirect=` for one that leads elsewhere, several for one that
 * leads on), orders faults in the address of a GET (`?first={…}` for its first request,
 * `?each={…}` for all others, both an {@link Answer}; `?cors=0` for a server without CORS), and reads the log at `/log?path=`.
 *
 * @module
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
// Real time for the server, also while a test holds the clock of its client.
import { setTimeout } from 'node:timers'
import { gzipSync } from 'node:zlib'

/** One request and its answer. */
export interface RequestRecord {
  path: string
  method: string
  range?: string
  ifRange?: string
  status: number
  /** Body bytes that were written. */
  bytes: number
}

/** Returned by a script: how to answer one request of a file. The defaults are those of a good server. */
export interface Answer {
  /** Send this status and a short text instead of the file. */
  status?: number
  headers?: Record<string, string>
  /** Answer 200 with the whole file whatever the request says. */
  ignoreRange?: boolean
  /** Replaces the `Content-Range` of a 206. */
  contentRange?: string
  /** Cut the connection before this byte of the file. */
  cutAt?: number
  /** End the body properly, but before this byte of the file. */
  endAt?: number
  /** Zeros after the body. */
  extraBytes?: number
  /** Invert this byte of the file. */
  flip?: number
  /** Go silent before this byte of the file, for as long as the client stays. */
  stallAt?: number
  bitsPerSecond?: number
  /** Compress the body and say so. */
  gzip?: boolean
  etag?: string
  redirect?: string
}

export interface ServedFile {
  bytes: Uint8Array
  /** Called for each GET with its number, from 0. */
  script?: (request: {
    number: number
    start: number
    end: number
    headers: IncomingMessage['headers']
  }) => Answer
}

export interface FaultServerOptions {
  /** Sends `Access-Control-Allow-Origin` unless false. */
  cors?: boolean
  /** Header names that other origins may read; none by default, as on most servers. */
  expose?: string
  /** Bits per second of each response. */
  bitsPerSecond?: number
  /** Bits per second of all responses together: one line, however many requests share it. */
  lineBitsPerSecond?: number
  /** Added before each response, ms. */
  latencyMs?: number
}

export interface FaultServer {
  url: string
  files: Map<string, ServedFile>
  log: RequestRecord[]
  options: FaultServerOptions
  /** Sum of body bytes since the last call, and the number of requests. */
  take(): { requests: number; bytes: number }
  close(): Promise<void>
}

/** Resolves once more can be written, or the reader is gone. */
function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      response.off('drain', done)
      response.off('close', done)
      resolve()
    }
    response.on('drain', done)
    response.on('close', done)
  })
}

/** The faults that an address orders. */
function ordered(request: IncomingMessage): ServedFile['script'] {
  const { searchParams } = new URL(request.url ?? '/', 'http://fault')
  const each = searchParams.get('each')
  const first = searchParams.get('first')
  if (each === null && first === null) return undefined
  return ({ number }) => JSON.parse((number === 0 ? first : undefined) ?? each ?? '{}') as Answer
}

export async function startFaultServer(options: FaultServerOptions = {}, port = 0): Promise<FaultServer> {
  const files = new Map<string, ServedFile>()
  const counts = new Map<string, number>()
  const log: RequestRecord[] = []
  /** When the shared line has sent what it was given, ms. */
  let lineFreeAt = 0

  const server = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://fault')
    const path = decodeURIComponent(pathname)
    if (options.cors !== false && !searchParams.has('cors')) {
      response.setHeader('Access-Control-Allow-Origin', '*')
      response.setHeader('Cross-Origin-Resource-Policy', 'cross-origin')
      if (options.expose) response.setHeader('Access-Control-Expose-Headers', options.expose)
    }
    if (path === '/log') return void sendLog(response, searchParams.get('path') ?? '')
    if (request.method === 'PUT') return void put(request, response, path, searchParams.getAll('redirect'))
    const record: RequestRecord = {
      path,
      method: request.method ?? '',
      range: request.headers.range,
      ifRange: request.headers['if-range'] as string | undefined,
      status: 0,
      bytes: 0,
    }
    log.push(record)
    response.on('close', () => {
      record.status = response.statusCode
    })
    setTimeout(() => {
      const file = files.get(path)
      if (request.method === 'OPTIONS') {
        response
          .writeHead(204, { 'Access-Control-Allow-Headers': '*', 'Access-Control-Allow-Methods': '*' })
          .end()
      } else if (!file) response.writeHead(404).end('no such file')
      else void answer(request, response, { ...file, script: ordered(request) ?? file.script }, record)
    }, options.latencyMs ?? 0)
  })

  async function put(
    request: IncomingMessage,
    response: ServerResponse,
    path: string,
    redirects: string[],
  ): Promise<void> {
    const pieces: Buffer[] = []
    for await (const piece of request) pieces.push(piece as Buffer)
    const script: ServedFile['script'] = ({ number }) => ({
      redirect: redirects[Math.min(number, redirects.length - 1)],
    })
    files.set(path, { bytes: Buffer.concat(pieces), ...(redirects.length > 0 && { script }) })
    response.writeHead(201).end()
  }

  function sendLog(response: ServerResponse, path: string): void {
    response.setHeader('Content-Type', 'application/json')
    response.end(JSON.stringify(log.filter((record) => record.path === path)))
  }

  async function answer(
    request: IncomingMessage,
    response: ServerResponse,
    { bytes, script }: ServedFile,
    record: RequestRecord,
  ): Promise<void> {
    const number = counts.get(request.url ?? '') ?? 0
    counts.set(request.url ?? '', number + 1)
    const match = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '')
    let start = match ? Number(match[1]) : 0
    let end = match?.[2] ? Math.min(Number(match[2]) + 1, bytes.length) : bytes.length
    const fault = script?.({ number, start, end, headers: request.headers }) ?? {}
    const etag = fault.etag ?? '"1"'
    for (const [name, value] of Object.entries(fault.headers ?? {})) response.setHeader(name, value)

    if (fault.redirect) return void response.writeHead(302, { Location: fault.redirect }).end()
    if (fault.status) return void response.writeHead(fault.status).end('fault')
    const stale = request.headers['if-range'] !== undefined && request.headers['if-range'] !== etag
    const whole = !match || fault.ignoreRange || stale
    if (whole) [start, end] = [0, bytes.length]
    if (start >= bytes.length && !whole) {
      return void response.writeHead(416, { 'Content-Range': `bytes */${bytes.length}` }).end()
    }

    let body = Buffer.from(bytes.slice(start, end))
    if (fault.flip !== undefined && fault.flip >= start && fault.flip < end) body[fault.flip - start] ^= 0xff
    if (fault.extraBytes) body = Buffer.concat([body, Buffer.alloc(fault.extraBytes)])
    if (fault.endAt !== undefined) body = body.subarray(0, Math.max(0, fault.endAt - start))
    const stop = Math.min(
      ...[fault.cutAt, fault.stallAt].filter((at) => at !== undefined).map((at) => Math.max(0, at - start)),
    )
    if (fault.gzip) {
      body = gzipSync(body)
      response.setHeader('Content-Encoding', 'gzip')
    }
    response.setHeader('ETag', etag)
    response.setHeader('Accept-Ranges', 'bytes')
    response.setHeader('Content-Type', 'application/octet-stream')
    // Without a length, so that a body which ends early ends like any other.
    if (fault.endAt === undefined) response.setHeader('Content-Length', body.length)
    if (!whole)
      response.setHeader('Content-Range', fault.contentRange ?? `bytes ${start}-${end - 1}/${bytes.length}`)
    response.writeHead(whole ? 200 : 206)

    const sent = Number.isFinite(stop) ? body.subarray(0, stop) : body
    await write(response, sent, record, fault.bitsPerSecond ?? options.bitsPerSecond)
    if (fault.stallAt !== undefined && Number.isFinite(stop)) return
    if (fault.cutAt !== undefined && stop < body.length) return void response.socket?.destroySoon()
    response.end()
  }

  async function write(
    response: ServerResponse,
    body: Buffer,
    record: RequestRecord,
    rate?: number,
  ): Promise<void> {
    const line = options.lineBitsPerSecond
    const piece = (rate ?? line) ? Math.max(1, Math.floor((rate ?? line ?? 0) / 8 / 50)) : 1 << 16
    const started = performance.now()
    for (let at = 0; at < body.length && !response.destroyed; at += piece) {
      const part = body.subarray(at, at + piece)
      record.bytes += part.length
      if (line) {
        lineFreeAt = Math.max(lineFreeAt, performance.now()) + (8000 * part.length) / line
        const wait = lineFreeAt - performance.now()
        await new Promise((resolve) => setTimeout(resolve, wait))
      }
      if (!response.write(part)) await drained(response)
      if (rate) {
        const due = (8000 * (at + part.length)) / rate
        await new Promise((resolve) => setTimeout(resolve, Math.max(0, due - (performance.now() - started))))
      }
    }
  }

  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
  let taken = 0
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    files,
    log,
    options,
    take() {
      const since = log.slice(taken)
      taken = log.length
      return { requests: since.length, bytes: since.reduce((sum, { bytes }) => sum + bytes, 0) }
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}
