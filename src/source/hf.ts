import { TritswapError } from '../errors.ts'

/** True for `hf:owner/repo…`. */
export function isHubName(source: string): boolean {
  return source.startsWith('hf:')
}

/** What a name on the Hugging Face Hub says. */
export interface HubName {
  owner: string
  repo: string
  /** A branch, a tag or a commit; only a commit can never change. */
  revision: string
  /** Of a file or a folder in the repository; `''` for the whole. */
  path: string
}

/** Revisions that have slashes in them: those of pull requests, and of the hub's own conversions. */
const SLASHED = /^refs\/(pr|convert)\/[^/]+/

/**
 * Reads `hf:owner/repo`, `hf:owner/repo/path@revision` or `hf:owner/repo@revision/path`; the revision is `main` by default.
 * @throws {TritswapError} `input`
 */
export function parseHubName(name: string): HubName {
  const [, owner, repo, rest] = /^hf:([^/@]+)\/([^/@]+)(.*)$/s.exec(name) ?? []
  if (rest === undefined)
    throw wrongName(name, 'hf:owner/repo, then @revision and /path where they are needed')
  let revision = 'main'
  let path = ''
  if (rest.startsWith('@')) {
    const after = rest.slice(1)
    revision = SLASHED.exec(after)?.[0] ?? after.split('/', 1)[0]
    path = after.slice(revision.length + 1)
  } else {
    const at = rest.lastIndexOf('@')
    path = rest.slice(1, at < 0 ? undefined : at)
    if (at >= 0) revision = rest.slice(at + 1)
  }
  const parts = [owner, repo, ...(path === '' ? [] : path.replace(/\/$/, '').split('/'))]
  if (
    /^\.{0,2}$/.test(revision) ||
    parts.some((part) => part === '' || part === '.' || part === '..') ||
    // Half a surrogate pair has no encoding.
    /\p{Surrogate}/u.test(name)
  ) {
    throw wrongName(name, 'hf:owner/repo/path/to/file, with @revision behind the repository or at the end')
  }
  return { owner, repo, revision, path: parts.slice(2).join('/') }
}

/**
 * The URL of a file on the hub.
 * @param name - as {@link parseHubName} reads it, with a path
 * @param host - origin of the hub or of a mirror
 * @throws {TritswapError} `input`
 */
export function hubUrl(name: string, host?: string): string {
  const { path } = parseHubName(name)
  if (path === '') throw wrongName(name, 'hf:owner/repo/path/to/file, with @revision if it is not main')
  return hubFolderUrl(name, host).slice(0, -1)
}

/**
 * The URL of a folder on the hub, with a slash at its end.
 * @throws {TritswapError} `input`
 */
export function hubFolderUrl(name: string, host = 'https://huggingface.co'): string {
  const { owner, repo, revision, path } = parseHubName(name)
  const folder = path.split('/').map(encodeURIComponent).join('/')
  const root = `${host.replace(/\/+$/, '')}/${encodeURIComponent(owner)}/${encodeURIComponent(repo)}`
  return `${root}/resolve/${encodeURIComponent(revision)}/${folder}${folder === '' ? '' : '/'}`
}

function wrongName(name: string, expected: string): TritswapError {
  return new TritswapError('input', `Cannot find ${name} on the hub: expected ${expected}`, {
    fields: { name },
  })
}
