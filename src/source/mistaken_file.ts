/**
 * Files that are not what their name says, by how they begin.
 *
 * @module
 */

import { TritswapError } from '../errors.ts'

/** Bytes that are enough to tell. */
export const TELLING_BYTES = 256

/** What a file is instead, with what to do, as the end of a sentence; undefined where nothing tells. */
export function mistakenFile(start: Uint8Array): string | undefined {
  const text = new TextDecoder('latin1').decode(start.subarray(0, TELLING_BYTES)).trimStart().toLowerCase()
  if (text.startsWith('version https://git-lfs')) {
    return 'it is a Git LFS pointer, not the file it stands for; fetch that with git lfs pull, or download it from the hub'
  }
  if (/^(\ufeff|ï»¿)?<(!doctype|html|head|\?xml|!--)/.test(text)) {
    return 'it is an HTML or XML page, such as a server sends for what it does not have; check the address and download it again'
  }
  if (text.startsWith('pk\x03\x04'))
    return 'it is a zip archive or a PyTorch pickle; save the weights as safetensors'
  return undefined
}

/** The error of a source that ends too early, or what its start says of it. */
export function shortOrMistaken(short: TritswapError, start: Uint8Array): TritswapError {
  const why = mistakenFile(start)
  if (why === undefined) return short
  return new TritswapError('format', `Cannot read ${short.fields.name}: ${why}`, { fields: short.fields })
}
