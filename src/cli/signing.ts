/**
 * Keys that sign registries: ed25519, the private one in a PEM file that stays with its author.
 *
 * @module
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { TritswapError } from '../errors.ts'
import { toBase64 } from '../source/trust.ts'

/**
 * Makes a pair of keys.
 * @param path - of the private key, PEM, which only its owner may read
 * @returns the public key, as a page names it
 * @throws {TritswapError} `input` where there is a file
 */
export async function makeKey(path: string): Promise<string> {
  if (existsSync(path)) {
    throw new TritswapError(
      'input',
      `Cannot write ${path}: there is a file; a key that is lost cannot be made again, so choose another name`,
      {
        fields: { path },
      },
    )
  }
  const { privateKey } = generateKeyPairSync('ed25519')
  await writeFile(path, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 })
  return publicKeyOf(privateKey)
}

/** The public key that belongs to a private one, base64 of 32 bytes. @throws {TritswapError} `input` */
export function publicKeyIn(pem: string): string {
  return publicKeyOf(privateKeyIn(pem))
}

/** @returns base64 of 64 bytes @throws {TritswapError} `input` for anything but an ed25519 key */
export async function signatureBy(pem: string, bytes: Uint8Array): Promise<string> {
  return toBase64(sign(null, bytes, privateKeyIn(pem)))
}

function privateKeyIn(pem: string): KeyObject {
  try {
    const key = createPrivateKey(pem)
    if (key.asymmetricKeyType === 'ed25519') return key
  } catch (cause) {
    throw noKey(cause)
  }
  throw noKey()
}

function noKey(cause?: unknown): TritswapError {
  return new TritswapError(
    'input',
    'Cannot sign: expected an ed25519 private key in PEM; make one with tritswap registry key',
    { cause },
  )
}

function publicKeyOf(key: KeyObject): string {
  const { x = '' } = createPublicKey(key).export({ format: 'jwk' })
  return toBase64(Buffer.from(x, 'base64url'))
}
