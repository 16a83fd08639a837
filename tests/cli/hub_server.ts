/**
 * A server that answers as the Hugging Face Hub does, and the one that it redirects large files to: an API that lists in
 * pages, `x-linked-etag` and `x-linked-size`, tokens, ranges, and cuts on demand.
 *
 * @module
 */
import { createHash } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export const COMMIT = 'c0ffee0000000000000000000000000000000001'

export interface Repository {
  files: Record<string, Uint8Array>
  /** The token that may read it; anyone may without. */
  token?: string
  /** What a token that may not read it is told. */
  gated?: boolean
}

export interface HubServer {
  endpoint: string
  /** Requests as `GET /path range`, those of the second server with `cdn` before them. */
  requests: string[]
  /** Headers of the last request for a path that ends so. */
  headersOf(end: string): IncomingMessage['headers']
  /** How many bytes of a file are sent before the connection is cut, for as many times as there are numbers. */
  cuts: Map<string, number[]>
  repositories: Map<string, Repository>
  close(): Promise<void>
}

/** Files from here on are large ones, which git keeps as pointers. */
const LARGE = 1024
const PAGE = 3

export async function startHub(repositories: Record<string, Repository>): Promise<HubServer> {
  const requests: string[] = []
  const headers: [string, IncomingMessage['headers']][] = []
  const cuts = new Map<string, number[]>()
  const known = new Map(Object.entries(repositories))
  const remember = (request: IncomingMessage, host: string) => {
    headers.push([request.url!, request.headers])
    requests.push(`${host}${request.method} ${request.url} ${request.headers.range ?? ''}`.trim())
  }

  const cdn = await listen((request, response) => {
    remember(request, 'cdn ')
    // A signed address takes no other credentials, as S3 says.
    if (request.headers.authorization !== undefined)
      return end(response, 400, 'only one auth mechanism allowed')
    const [, owner, repo, ...path] = decodeURIComponent(request.url!.split('?')[0]).split('/')
    sendBytes(
      request,
      response,
      known.get(`${owner}/${repo}`)!.files[path.join('/')],
      cuts.get(path.join('/')),
    )
  })

  const hub = await listen((request, response) => {
    remember(request, '')
    const url = new URL(request.url!, 'http://hub')
    const parts = url.pathname.split('/').slice(1).map(decodeURIComponent)
    const isApi = parts[0] === 'api'
    const [owner, repo, what, revision, ...rest] = isApi ? parts.slice(2) : parts
    const repository = known.get(`${owner}/${repo}`)
    const { authorization } = request.headers
    // The hub tells strangers nothing, not even whether there is such a repository.
    if (repository === undefined)
      return end(response, authorization === undefined ? 401 : 404, 'RepoNotFound')
    if (repository.token !== undefined && authorization !== `Bearer ${repository.token}`)
      return end(response, authorization === undefined ? 401 : 403, 'GatedRepo')
    if (!['main', 'v1', 'refs/pr/7', COMMIT].includes(revision)) return end(response, 404, 'RevisionNotFound')
    if (isApi && what === 'revision') return json(response, { id: `${owner}/${repo}`, sha: COMMIT })
    if (isApi) return sendTree(url, response, repository.files)
    const path = rest.join('/')
    const bytes = repository.files[path]
    if (bytes === undefined) return end(response, 404, 'EntryNotFound')
    response.setHeader('X-Repo-Commit', COMMIT)
    response.setHeader('ETag', `"${gitHash(bytes)}"`)
    if (bytes.length < LARGE) return sendBytes(request, response, bytes)
    response.setHeader('X-Linked-ETag', `"${sha256(bytes)}"`)
    response.setHeader('X-Linked-Size', bytes.length)
    response.setHeader('Location', `${address(cdn)}/${owner}/${repo}/${path}?signature=x`)
    end(response, 302, 'Found')
  })

  return {
    endpoint: address(hub),
    requests,
    headersOf: (last) => headers.findLast(([url]) => url.split('?')[0].endsWith(last))![1],
    cuts,
    repositories: known,
    async close() {
      for (const server of [hub, cdn]) {
        server.closeAllConnections()
        await new Promise((resolve) => server.close(resolve))
      }
    },
  }
}

function sendTree(url: URL, response: ServerResponse, files: Repository['files']): void {
  const all = Object.entries(files).map(([path, bytes]) => ({
    type: 'file',
    path,
    size: bytes.length,
    oid: gitHash(bytes),
    ...(bytes.length < LARGE ? {} : { lfs: { oid: sha256(bytes), size: bytes.length, pointerSize: 130 } }),
  }))
  const from = Number(url.searchParams.get('cursor') ?? 0)
  if (from + PAGE < all.length) {
    url.searchParams.set('cursor', String(from + PAGE))
    response.setHeader('Link', `<${url.pathname}${url.search}>; rel="next"`)
  }
  json(response, [{ type: 'directory', path: 'onnx' }, ...all.slice(from, from + PAGE)])
}

function sendBytes(
  request: IncomingMessage,
  response: ServerResponse,
  bytes: Uint8Array,
  cuts?: number[],
): void {
  const [, first] = /^bytes=(\d+)-/.exec(request.headers.range ?? '') ?? []
  const from = Number(first ?? 0)
  const [, last] = /-(\d+)$/.exec(request.headers.range ?? '') ?? []
  const to = Math.min(bytes.length, last === undefined ? bytes.length : Number(last) + 1)
  if (first !== undefined) response.setHeader('Content-Range', `bytes ${from}-${to - 1}/${bytes.length}`)
  response.setHeader('Content-Length', to - from)
  response.writeHead(first === undefined ? 200 : 206)
  const cut = cuts?.shift()
  if (cut === undefined) response.end(bytes.subarray(from, to))
  else response.write(bytes.subarray(from, Math.min(to, from + cut)), () => response.destroy())
}

async function listen(
  handler: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<Server> {
  const server = createServer(handler)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return server
}

function address(server: Server): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

function json(response: ServerResponse, value: unknown): void {
  response.setHeader('Content-Type', 'application/json')
  response.end(JSON.stringify(value))
}

function end(response: ServerResponse, status: number, code: string): void {
  response.setHeader('X-Error-Code', code)
  response.writeHead(status).end(code)
}

function gitHash(bytes: Uint8Array): string {
  return createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex')
}

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}
