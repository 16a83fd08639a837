/**
 * A plain static host that has the page in a folder, under a strict content security policy.
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
export const STRICT_CSP = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'"

/**
 * Serves a folder below a path, and nothing above it.
 * @param prefix - with a slash at both ends
 */
export async function startStaticServer(
  folder: string,
  prefix: string,
): Promise<{ url: string; close: () => Promise<void> }> {
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://localhost')
    const path = decodeURIComponent(pathname)
    const inside = path.startsWith(prefix) ? path.slice(prefix.length) : undefined
    const file = inside === undefined ? undefined : normalize(join(folder, inside || 'index.html'))
    const found = file?.startsWith(folder + sep) ? await stat(file).catch(() => undefined) : undefined
    if (file === undefined || !found?.isFile()) {
      response.writeHead(404).end()
      return
    }
    response.writeHead(200, {
      'Content-Type': TYPES[extname(file)] ?? 'application/octet-stream',
      'Content-Length': found.size,
      'Content-Security-Policy': STRICT_CSP,
    })
    createReadStream(file).pipe(response)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    url: `http://localhost:${port}${prefix}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}
