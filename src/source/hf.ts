import { TritswapError } from '../errors.ts'

/** True for `hf:owner/repo/path@revision`. */
export function isHubName(source: string): boolean {
  return source.startsWith('hf:')
}

/**
 * The URL of a file on the Hugging Face Hub: `hf:owner/repo/path/to/file@revision`, `@main` by default. A revision may
 * be a branch, a tag or a commit; only a commit can never change.
 * @param host - origin of the hub or of a mirror
 * @throws {TritswapError} `input`
 */
export function hubUrl(name: string, host = 'https://huggingface.co'): string {
  const at = name.lastIndexOf('@')
  const path = name.slice('hf:'.length, at < 0 ? undefined : at)
  const revision = at < 0 ? 'main' : name.slice(at + 1)
  const parts = path.split('/')
  if (
    parts.length < 3 ||
    /^\.{0,2}$/.test(revision) ||
    parts.some((part) => part === '' || part === '.' || part === '..') ||
    // Half a surrogate pair has no encoding.
    /\p{Surrogate}/u.test(name)
  ) {
    throw new TritswapError(
      'input',
      `Cannot find ${name} on the hub: expected hf:owner/repo/path/to/file, with @revision if it is not main`,
      { fields: { name } },
    )
  }
  const [owner, repo, ...file] = parts.map(encodeURIComponent)
  return `${host.replace(/\/+$/, '')}/${owner}/${repo}/resolve/${encodeURIComponent(revision)}/${file.join('/')}`
}

/**
 * The URL of a model folder on the hub, with a slash at its end: `hf:owner/repo@revision`.
 * @throws {TritswapError} `input`
 */
export function hubFolderUrl(name: string, host?: string): string {
  if (!/^hf:[^/@]+\/[^/@]+(@[^/@]+)?$/.test(name)) {
    throw new TritswapError(
      'input',
      `Cannot find ${name} on the hub: expected hf:owner/repo, with @revision if it is not main`,
      { fields: { name } },
    )
  }
  const [repo, revision] = name.split('@')
  const file = '-'
  return hubUrl(revision === undefined ? `${repo}/${file}` : `${repo}/${file}@${revision}`, host).slice(
    0,
    -file.length,
  )
}
