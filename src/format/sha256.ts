import { checkSecureContext } from '../secure_context.ts'

/**
 * SHA-256 by the platform (Web Crypto: browsers, workers, Node).
 * @throws {TritswapError} `webgpu` on a page that is not a secure context
 */
export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  checkSecureContext('Cannot verify what was loaded')
  return new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))
}

export function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
}

export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i])
}
