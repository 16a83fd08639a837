/**
 * A plain static host that has a folder below a path, under a content security policy.
 *
 * @module
 */
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { extname, join, normalize, sep } from 'node:path'

const TYPES: Record<string, string> = {
  '.css': 'text/css',
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.json': 'application/json',
  '.mjs': 'text/javascript',
  '.svg': 'image/svg+xml',
  '.txt': 'text/plain; charset=utf-8',
  '.wasm': 'application/wasm',
}

/** The narrowest policy that the page runs under: nothing inline, nothing from elsewhere, no eval but of wasm. */
const STRICT_CSP = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'"

export interface StaticServerOptions {
  /** Sent with everything; {@link STRICT_CSP} by default. */
  policy?: string
  /** Whether pages of other origins may read what is here. */
  cors?: boolean
  /** Pages that are in no folder, by their paths below the prefix. */
  pages?: Readonly<Record<string, string>>
  /** Files, by their paths below the prefix, of which so many bytes come and no more until {@link StaticServer.release}. */
  stall?: Readonly<Record<string, number>>
}

export interface StaticServer {
  url: string
  /** Lets stalled files go on. */
  release(): void
  close(): Promise<void>
}

/**
 * Serves folders below a path, and nothing above them.
 * @param folders - by where they are below the prefix: `''`, or with a slash at the end; the first that fits counts
 * @param prefix - with a slash at both ends
 */
export async function startStaticServer(
  folders: Readonly<Record<string, string>>,
  prefix: string,
  { policy = STRICT_CSP, cors = false, pages = {}, stall = {} }: StaticServerOptions = {},
): Promise<StaticServer> {
  let release = () => {}
  const released = new Promise<void>((resolve) => {
    release = resolve
  })
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://localhost')
    const path = decodeURIComponent(pathname)
    const inside = path.startsWith(prefix) ? path.slice(prefix.length) || 'index.html' : undefined
    const headers = {
      'Content-Security-Policy': policy,
      ...(cors ? { 'Access-Control-Allow-Origin': '*' } : undefined),
    }
    const page = inside === undefined ? undefined : pages[inside]
    if (page !== undefined) {
      response.writeHead(200, { ...headers, 'Content-Type': 'text/html' }).end(page)
      return
    }
    const [mount, folder] = Object.entries(folders).find(([start]) => inside?.startsWith(start)) ?? []
    const file = folder === undefined ? undefined : normalize(join(folder, inside!.slice(mount!.length)))
    const found = file?.startsWith(folder + sep) ? await stat(file).catch(() => undefined) : undefined
    if (file !== undefined && found?.isFile()) {
      response.writeHead(200, {
        ...headers,
        'Content-Type': TYPES[extname(file)] ?? 'application/octet-stream',
        'Content-Length': found.size,
      })
      const first = stall[inside!] ?? 0
      if (first > 0) {
        for await (const piece of createReadStream(file, { end: first - 1 })) response.write(piece)
        await released
      }
      createReadStream(file, { start: first }).pipe(response)
      return
    }
    response.writeHead(404, headers).end()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    url: `http://localhost:${port}${prefix}`,
    release,
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}
