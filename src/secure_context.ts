import { TritswapError } from './errors.ts'

/** What an insecure page lacks, and the way out. */
export const INSECURE =
  'this page is not a secure context, and browsers give WebGPU and crypto.subtle to no other; serve it on https, or on localhost'

/**
 * @param cannot - what is asked for: `Cannot load the base`
 * @throws {TritswapError} `webgpu` on a page on plain http
 */
export function checkSecureContext(cannot: string): void {
  if (globalThis.isSecureContext !== false) return
  throw new TritswapError('webgpu', `${cannot}: ${INSECURE}`, { fields: { missing: 'secure context' } })
}
