/**
 * Where a model folder is and what to call it: all that a page needs to know before a worker opens it.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { hubFolderUrl, isHubName } from './hf.ts'

/**
 * URL of a model folder, absolute, with a slash at its end.
 * @param model - a URL, a path, or `hf:owner/repo@revision`
 * @param base - what a relative path is relative to
 * @param hub - host of `hf:` names
 * @throws {TritswapError} `input`
 */
export function folderUrl(model: string | URL, base: string | undefined, hub?: string): string {
  const name = String(model)
  if (isHubName(name)) return hubFolderUrl(name, hub)
  const path = `${name.replace(/\/+$/, '')}/`
  if (URL.canParse(path, base)) return new URL(path, base).href
  throw new TritswapError(
    'input',
    `Cannot open the model ${name}: expected a URL, a path, or hf:owner/repo`,
    {
      fields: { model: name },
    },
  )
}

/** A name for the model at a folder's URL: `owner/repo` on the hub, else the last part of the path. */
export function folderName(url: string): string {
  const { pathname, hostname } = new URL(url)
  const parts = pathname.split('/').filter(Boolean)
  const resolve = parts.indexOf('resolve')
  return (
    (hostname === 'huggingface.co' && resolve > 0 ? parts.slice(0, resolve) : parts.slice(-1)).join('/') ||
    url
  )
}
