/**
 * The registry, `experts.json`: which experts there are for a base. `schema/experts.schema.json` says what it holds.
 *
 * @module
 */
import { type OutputUnit, Validator } from '@cfworker/json-schema'
import schema from '../../schema/experts.schema.json' with { type: 'json' }
import { TritswapError } from '../errors.ts'
import type { GenerationSettings } from './generation_settings.ts'
import { isHubName } from './hf.ts'
import { type HttpOptions, httpSource } from './http.ts'
import { parseJsonText } from './json.ts'
import { MAX_REGISTRY_BYTES, REGISTRY_JSON } from './limits.ts'
import { type RetryPolicy, withRetry } from './retry.ts'

/** One expert. Texts come from the network: show them as text, never as markup. */
export interface RegistryEntry {
  /** Unique in its registry. */
  id: string
  label: string
  description?: string
  /** In the file relative to the registry; {@link readRegistry} makes it absolute (or `hf:…`). */
  url: string
  /** Size of the file. */
  bytes: number
  /** SHA-256 of the head: authenticates the whole file. */
  rootHash: string
  method?: 'full' | 'lora' | 'ia3'
  density?: number
  alpha?: number
  licence?: string
  /** A prompt that shows what the expert does. */
  prompt?: string
  /** What chats with it begin with, in place of what its file says. */
  system?: string
  /** How text is generated with it where a call does not say, before what its file says. */
  generation?: GenerationSettings
  /** Requests that show what the expert does in a chat. */
  samples?: string[]
  /** Address of the held-out text that the expert is measured on. */
  text?: string
  /** Id of the expert of which this is another compression. */
  variantOf?: string
  /** Bytes that a site would send without tritswap. */
  replaces?: { f16Delta?: number; f16Lora?: number }
  /** The registry's own, which {@link readRegistry} copies to every entry: loaders compare its fingerprint. */
  base?: { name?: string; fingerprint?: string }
  /** Against the uncompressed fine-tuning, on `windows` of 256 tokens of `text`; `kl` in bits per token. */
  quality?: { gainKept: number; agreement: number; kl: number; windows?: number }
  /** Shares of `n` held-out requests that are answered exactly: by the base, the uncompressed adapter, the expert. */
  scores?: { base: number; adapter?: number; expert: number; n: number }
}

export interface Registry {
  version: 1
  base?: { name?: string; fingerprint?: string }
  experts: RegistryEntry[]
}

/**
 * Checks a registry.
 * @param text - JSON
 * @param name - for messages
 * @throws {TritswapError} `format`, naming the field; `limit`
 */
export function parseRegistry(text: string, name = 'experts.json'): Registry {
  const value = parseJsonText(text, name, REGISTRY_JSON)
  const { valid, errors } = new Validator(schema as object, '2020-12').validate(value)
  if (!valid) throw invalid(name, deepest(errors))
  const registry = value as Registry
  const ids = new Set<string>()
  for (const { id } of registry.experts) {
    if (ids.has(id)) {
      throw new TritswapError('format', `Cannot read ${name}: two experts have the id ${id}`, {
        fields: { name, id },
      })
    }
    ids.add(id)
  }
  return registry
}

/**
 * Fetches a registry and makes the addresses in it absolute.
 * @throws {TritswapError} `network` or `format`
 */
export async function readRegistry(
  url: string | URL,
  options: HttpOptions & { signal?: AbortSignal; retry?: Partial<RetryPolicy> } = {},
): Promise<Registry> {
  const { signal, retry, ...http } = options
  const base = new URL(url, globalThis.location?.href).href
  const pieces: Uint8Array<ArrayBuffer>[] = []
  let bytes = 0
  for await (const piece of withRetry(httpSource(base, http), retry).stream!(0, { signal })) {
    pieces.push(piece)
    bytes += piece.length
    if (bytes > MAX_REGISTRY_BYTES) {
      throw new TritswapError(
        'limit',
        `Cannot read ${base}: it is over the limit of ${MAX_REGISTRY_BYTES} bytes`,
        {
          fields: { url: base, limit: MAX_REGISTRY_BYTES },
        },
      )
    }
  }
  const registry = parseRegistry(await new Blob(pieces).text(), base)
  return {
    ...registry,
    experts: registry.experts.map((entry) => resolved({ ...entry, base: registry.base }, base)),
  }
}

function resolved(entry: RegistryEntry, base: string): RegistryEntry {
  const absolute = (field: string, address: string) => {
    if (isHubName(address)) return address
    const url = tryUrl(address, base)
    if (url?.protocol === 'http:' || url?.protocol === 'https:') return url.href
    throw new TritswapError(
      'format',
      `Cannot read ${base}: ${field} of ${entry.id} is ${address}, expected a relative, http(s) or hf: address`,
      { fields: { url: base, id: entry.id, field } },
    )
  }
  const url = absolute('url', entry.url)
  return entry.text === undefined ? { ...entry, url } : { ...entry, url, text: absolute('text', entry.text) }
}

function tryUrl(address: string, base: string): URL | undefined {
  try {
    return new URL(address, base)
  } catch {
    return undefined
  }
}

/** The most specific error: the validator lists failures from the outside in. */
function deepest(errors: OutputUnit[]): OutputUnit {
  return errors.reduce((a, b) => (b.instanceLocation.length > a.instanceLocation.length ? b : a))
}

function invalid(name: string, { instanceLocation, error }: OutputUnit): TritswapError {
  const field = instanceLocation.replace(/^#\/?/, '') || 'the whole'
  return new TritswapError('format', `Cannot read ${name}: ${field}: ${error.replace(/\.$/, '')}`, {
    fields: { name, field, found: error },
  })
}
