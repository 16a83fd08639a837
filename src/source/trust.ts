/**
 * What makes bytes trustworthy that anyone may have replaced: a hash that the page holds, or a signature by a key that it
 * names. Hashes inside a registry prove nothing once the registry itself is another.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { checkSecureContext } from '../secure_context.ts'

const ALGORITHMS: Record<string, string> = { sha256: 'SHA-256', sha384: 'SHA-384', sha512: 'SHA-512' }

/** Bytes of an ed25519 public key, and of a signature. */
const [KEY_BYTES, SIGNATURE_BYTES] = [32, 64]

/**
 * Checks bytes against the hash that a page holds.
 * @param integrity - as HTML has it: `sha256-`, `sha384-` or `sha512-` and the hash in base64; of several, separated by spaces, one must fit
 * @param name - for messages
 * @throws {TritswapError} `input` for anything but such a text, `integrity` for other bytes
 */
export async function checkIntegrity(
  bytes: Uint8Array<ArrayBuffer>,
  integrity: string,
  name: string,
): Promise<void> {
  checkSecureContext(`Cannot verify ${name}`)
  const wanted = integrity.trim().split(/\s+/)
  const found: string[] = []
  for (const one of wanted) {
    const [, algorithm = '', hash = ''] = /^(sha\d+)-([A-Za-z0-9+/=]+)$/.exec(one) ?? []
    if (!Object.hasOwn(ALGORITHMS, algorithm)) {
      throw new TritswapError(
        'input',
        `Cannot verify ${name}: expected integrity as sha256-, sha384- or sha512- and a base64 hash, found ${one.slice(0, 80)}`,
        { fields: { name, found: one } },
      )
    }
    const actual = toBase64(new Uint8Array(await crypto.subtle.digest(ALGORITHMS[algorithm]!, bytes)))
    if (actual.replace(/=+$/, '') === hash.replace(/=+$/, '')) return
    found.push(`${algorithm}-${actual}`)
  }
  throw new TritswapError(
    'integrity',
    `Cannot use ${name}: expected ${wanted.join(' or ')} as this page holds to, found ${found[0]}; it is another file than the one that was published, or a newer one that this page does not know`,
    { fields: { name, expected: integrity, found: found[0] } },
  )
}

/**
 * Checks an ed25519 signature over bytes.
 * @param signature - base64 of 64 bytes
 * @param key - the public key that the page names: base64 of 32 bytes
 * @param name - for messages
 * @throws {TritswapError} `input` for anything but a key, `integrity` for a signature by another key or over other bytes,
 * `unsupported` where the browser has no ed25519
 */
export async function checkSignature(
  bytes: Uint8Array<ArrayBuffer>,
  signature: string,
  key: string,
  name: string,
): Promise<void> {
  checkSecureContext(`Cannot verify ${name}`)
  const raw = fromBase64(key.trim())
  if (raw?.length !== KEY_BYTES) {
    throw new TritswapError(
      'input',
      `Cannot verify ${name}: expected an ed25519 public key, base64 of 32 bytes, found ${key.slice(0, 80)}`,
      {
        fields: { name, key },
      },
    )
  }
  const signed = fromBase64(signature.trim())
  if (signed?.length === SIGNATURE_BYTES && (await verified(raw, signed, bytes, name))) return
  throw new TritswapError(
    'integrity',
    `Cannot use ${name}: its signature is not one of the key ${key} that this page names; it was changed, or signed by someone else`,
    { fields: { name, key } },
  )
}

async function verified(
  raw: Uint8Array<ArrayBuffer>,
  signature: Uint8Array<ArrayBuffer>,
  bytes: Uint8Array<ArrayBuffer>,
  name: string,
): Promise<boolean> {
  let key: CryptoKey
  try {
    key = await crypto.subtle.importKey('raw', raw, 'Ed25519', false, ['verify'])
  } catch (cause) {
    if (cause instanceof Error && cause.name === 'DataError') return false
    throw new TritswapError(
      'unsupported',
      `Cannot verify ${name}: this browser has no ed25519 signatures; update it, or hold to a hash with integrity`,
      {
        fields: { name },
        cause,
      },
    )
  }
  return crypto.subtle.verify('Ed25519', key, signature, bytes)
}

export function toBase64(bytes: Uint8Array): string {
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''))
}

/** Undefined for what is not base64. */
function fromBase64(text: string): Uint8Array<ArrayBuffer> | undefined {
  try {
    return Uint8Array.from(atob(text), (char) => char.charCodeAt(0))
  } catch {
    return undefined
  }
}
