/**
 * What the hub's API says of a repository: which commit a revision is, and which files it has.
 *
 * @module
 */
import { isTritswapError, TritswapError } from '../../errors.ts'
import { type HubName, hubFolderUrl } from '../../source/hf.ts'
import { httpSource } from '../../source/http.ts'
import { parseJsonText } from '../../source/json.ts'
import { HUB_JSON, MAX_HUB_ANSWER_BYTES, MAX_HUB_FILES } from '../../source/limits.ts'
import { withRetry } from '../../source/retry.ts'
import type { ByteSource } from '../../source/source.ts'
import type { HubSettings } from './settings.ts'

/** A file of a repository. */
export interface HubFile {
  path: string
  bytes: number
  /** What its bytes must hash to: SHA-256 of a large file, else the SHA-1 of a git blob; in lower-case hex. */
  hash: string
  hashKind: 'sha256' | 'git'
}

export const COMMIT = /^[0-9a-f]{40}$/
const SHA256 = /^[0-9a-f]{64}$/

/** The commit that a revision is now. */
export async function commitOf(name: HubName, settings: HubSettings): Promise<string> {
  const url = `${apiUrl(name, settings)}/revision/${encodeURIComponent(name.revision)}`
  const { value } = await readApi(url, name, settings)
  const sha = (value as { sha?: unknown } | null)?.sha
  if (typeof sha !== 'string' || !COMMIT.test(sha)) throw badAnswer(url, 'it names no commit')
  return sha
}

/** All files of a commit. */
export async function filesOf(name: HubName, commit: string, settings: HubSettings): Promise<HubFile[]> {
  const files: HubFile[] = []
  let url: string | undefined = `${apiUrl(name, settings)}/tree/${commit}?recursive=true&expand=false`
  while (url !== undefined) {
    const { value, next } = await readApi(url, name, settings)
    if (!Array.isArray(value)) throw badAnswer(url, 'it is no list of files')
    for (const entry of value) {
      const file = fileOf(entry, url)
      if (file !== undefined) files.push(file)
    }
    if (files.length > MAX_HUB_FILES) {
      const fields = { url, limit: MAX_HUB_FILES }
      throw new TritswapError('limit', `Cannot list ${url}: it has over ${MAX_HUB_FILES} files`, { fields })
    }
    url = next
  }
  return files
}

/** The bytes of a file, with retries; a read goes on where a connection broke. */
export function hubSource(name: HubName, commit: string, path: string, settings: HubSettings): ByteSource {
  const folder = hubFolderUrl(`hf:${name.owner}/${name.repo}@${commit}`, settings.endpoint)
  const url = `${folder}${path.split('/').map(encodeURIComponent).join('/')}`
  return withRetry(httpSource(url, { fetch: authorized(settings) }))
}

/** Says what a refusal of the hub means; other errors stay as they are. */
export function explained(
  error: unknown,
  { owner, repo, revision }: HubName,
  settings: HubSettings,
): unknown {
  if (!isTritswapError(error, 'network')) return error
  const { status } = error.fields
  const name = `${owner}/${repo}`
  const why =
    status === 401 || status === 403
      ? settings.token === undefined
        ? `the hub asks for a token, for ${name} is private, gated or not there; set HF_TOKEN to one that may read it`
        : `HF_TOKEN may not read ${name}; open ${settings.endpoint}/${name} with that account, and accept its terms if it asks`
      : status === 404
        ? `the hub has no ${name} with the revision ${revision}`
        : undefined
  if (why === undefined) return error
  return new TritswapError('input', `Cannot open hf:${name}: ${why}`, {
    fields: { name, revision, status },
    cause: error,
  })
}

/** Adds the token to requests for the endpoint. What it redirects to gets none: fetch drops it on another origin. */
function authorized({ endpoint, token }: HubSettings): typeof fetch {
  if (token === undefined) return fetch
  const { origin } = new URL(endpoint)
  return (input, init) => {
    if (new URL(String(input)).origin !== origin) return fetch(input, init)
    return fetch(input, { ...init, headers: { ...init?.headers, Authorization: `Bearer ${token}` } })
  }
}

function apiUrl({ owner, repo }: HubName, { endpoint }: HubSettings): string {
  return `${endpoint}/api/models/${encodeURIComponent(owner)}/${encodeURIComponent(repo)}`
}

/** @returns the answer, and the address of the next page where there is one */
async function readApi(
  url: string,
  name: HubName,
  settings: HubSettings,
): Promise<{ value: unknown; next: string | undefined }> {
  let link: string | null = null
  const send = authorized(settings)
  const source = withRetry(
    httpSource(url, {
      fetch: async (input, init) => {
        const response = await send(input, init)
        link = response.headers.get('Link')
        return response
      },
    }),
  )
  const pieces: Uint8Array<ArrayBuffer>[] = []
  let bytes = 0
  try {
    for await (const piece of source.stream!(0)) {
      pieces.push(piece)
      bytes += piece.length
      if (bytes > MAX_HUB_ANSWER_BYTES) throw badAnswer(url, `it is over ${MAX_HUB_ANSWER_BYTES} bytes`)
    }
  } catch (error) {
    throw explained(error, name, settings)
  }
  const next = /<([^>]+)>;\s*rel="?next"?/.exec(link ?? '')?.[1]
  return {
    value: parseJsonText(await new Blob(pieces).text(), url, HUB_JSON),
    next: next === undefined ? undefined : sameOrigin(next, url),
  }
}

function sameOrigin(next: string, url: string): string {
  const found = new URL(next, url)
  if (found.origin !== new URL(url).origin) throw badAnswer(url, 'it goes on at another host')
  return found.href
}

/** @returns undefined for anything but a file */
function fileOf(entry: unknown, url: string): HubFile | undefined {
  const { type, path, size, oid, lfs } = (entry ?? {}) as Record<string, unknown>
  if (type !== 'file') return undefined
  const large = (lfs ?? undefined) as { oid?: unknown; size?: unknown } | undefined
  const hash = large?.oid ?? oid
  const bytes = large?.size ?? size
  const isHash = typeof hash === 'string' && (large === undefined ? COMMIT : SHA256).test(hash)
  if (
    typeof path !== 'string' ||
    !isHash ||
    typeof bytes !== 'number' ||
    !(Number.isSafeInteger(bytes) && bytes >= 0)
  )
    throw badAnswer(url, 'it has a file without path, size or hash')
  // A path becomes one on this disk.
  if (/[\\\0]/.test(path) || path.split('/').some((part) => /^\.{0,2}$/.test(part) || /^[a-z]:/i.test(part)))
    throw badAnswer(url, `it has a file ${path.slice(0, 120)}, which leaves its folder`)
  return { path, bytes, hash, hashKind: large === undefined ? 'git' : 'sha256' }
}

function badAnswer(url: string, why: string): TritswapError {
  return new TritswapError('format', `Cannot read the answer of ${url}: ${why}; is HF_ENDPOINT a hub?`, {
    fields: { url },
  })
}
