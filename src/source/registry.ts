/**
 * The registry, `experts.json`: which experts there are for a base. `schema/experts.schema.json` says what it holds.
 *
 * @module
 */
import { type OutputUnit, Validator } from '@cfworker/json-schema'
import schema from '../../schema/experts.schema.json' with { type: 'json' }
import { isTritswapError, TritswapError } from '../errors.ts'
import type { GenerationSettings } from './generation_settings.ts'
import { isHubName } from './hf.ts'
import { parseJsonText } from './json.ts'
import { type FileOptions, fetchKept } from './kept_file.ts'
import { MAX_REGISTRY_BYTES, REGISTRY_JSON } from './limits.ts'
import { checkIntegrity, checkSignature } from './trust.ts'

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
  method?: 'full' | 'lora' | 'ia3' | 'prompt'
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
  /** Which release of the expert this is, as its author counts. */
  version?: string
  /** Earlier releases, the last one first: what `tritswap registry rollback` goes back to. */
  previous?: ExpertRelease[]
  /** Why it must not be used any more: loaders refuse it. */
  withdrawn?: string
  /** The registry's own, which {@link readRegistry} copies to every entry: loaders compare its fingerprint. */
  base?: { name?: string; fingerprint?: string }
  /** Against the uncompressed fine-tuning, on `windows` of 256 tokens of `text`; `kl` in bits per token. */
  quality?: { gainKept: number; agreement: number; kl: number; windows?: number }
  /** Shares of `n` held-out requests that are answered exactly: by the base, the uncompressed adapter, the expert. */
  scores?: { base: number; adapter?: number; expert: number; n: number }
}

/** A release of an expert. */
export type ExpertRelease = Pick<RegistryEntry, 'version' | 'url' | 'bytes' | 'rootHash'>

/** A file beside the registry that the registry authenticates. */
export interface RegistryFile {
  /** In the file relative to the registry; {@link readRegistry} makes it absolute. */
  url: string
  bytes: number
  /** Lower-case hex. */
  sha256: string
}

/** The experts that follow: a list `{ version, experts }` in a file of its own. */
export interface RegistryPage extends RegistryFile {
  /** Experts in it. */
  count: number
}

export interface Registry {
  version: 1
  base?: { name?: string; fingerprint?: string }
  /** What routing and searching need of all experts: `src/route/index_file.ts`. */
  index?: RegistryFile
  /** Where there are many experts, all but the first of them. */
  pages?: RegistryPage[]
  experts: RegistryEntry[]
}

/** How a registry is fetched, and what it must be. */
export interface RegistryOptions extends FileOptions {
  /** Its hash, as in HTML's `integrity`: any other registry is refused. */
  integrity?: string
  /** The ed25519 public key, base64, of those who may publish it: its signature lies beside it, as `<registry>.sig`. */
  signedBy?: string
}

/** A registry as it was fetched. */
export interface FetchedRegistry extends Registry {
  /** Absolute. */
  url: string
  /** The server is out of reach: this is what was kept of it. */
  isCopy: boolean
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

/** A signature is 88 characters of base64. */
const MAX_SIGNATURE_BYTES = 1024

/**
 * Fetches a registry and makes the addresses in it absolute.
 * @throws {TritswapError} `network` or `format`; `integrity` where it is not what the page holds to
 */
export async function readRegistry(
  url: string | URL,
  options: RegistryOptions = {},
): Promise<FetchedRegistry> {
  const { integrity, signedBy, ...files } = options
  const base = new URL(url, globalThis.location?.href).href
  const check = async (bytes: Uint8Array<ArrayBuffer>) => {
    if (integrity !== undefined) await checkIntegrity(bytes, integrity, base)
    if (signedBy !== undefined) await checkSigned(bytes, base, signedBy, files)
  }
  const { bytes, isCopy } = await fetchKept(base, MAX_REGISTRY_BYTES, check, files)
  const registry = parseRegistry(new TextDecoder().decode(bytes), base)
  const { index, pages } = registry
  return {
    ...registry,
    url: base,
    isCopy,
    ...(index && { index: { ...index, url: absolute(base, 'the url', 'its index', index.url) } }),
    ...(pages && {
      pages: pages.map((page) => ({ ...page, url: absolute(base, 'the url', 'a page', page.url) })),
    }),
    experts: resolvedEntries(registry, base),
  }
}

/** @throws {TritswapError} `integrity` for other bytes than those that were signed, or without a signature */
async function checkSigned(
  bytes: Uint8Array<ArrayBuffer>,
  registry: string,
  key: string,
  files: FileOptions,
): Promise<void> {
  const url = new URL(registry)
  url.pathname += '.sig'
  const check = (signature: Uint8Array) =>
    checkSignature(bytes, new TextDecoder().decode(signature), key, registry)
  try {
    await fetchKept(url.href, MAX_SIGNATURE_BYTES, check, files)
  } catch (cause) {
    if (!isTritswapError(cause, 'network') || cause.fields.status === undefined) throw cause
    throw new TritswapError(
      'integrity',
      `Cannot use ${registry}: this page asks for a signature, and there is none at ${url.href}; sign it with tritswap registry sign`,
      { fields: { url: registry }, cause },
    )
  }
}

/** Its entries with absolute addresses, each with the registry's base. @param base - address of the registry */
export function resolvedEntries({ base: model, experts }: Registry, base: string): RegistryEntry[] {
  return experts.map((entry) => {
    const of = (field: string, address: string) => absolute(base, field, entry.id, address)
    const { text, previous } = entry
    return {
      ...entry,
      base: model,
      url: of('url', entry.url),
      ...(text !== undefined && { text: of('text', text) }),
      ...(previous && { previous: previous.map((one) => ({ ...one, url: of('url', one.url) })) }),
    }
  })
}

function absolute(base: string, field: string, of: string, address: string): string {
  if (isHubName(address)) return address
  const url = tryUrl(address, base)
  if (url?.protocol === 'http:' || url?.protocol === 'https:') return url.href
  throw new TritswapError(
    'format',
    `Cannot read ${base}: ${field} of ${of} is ${address}, expected a relative, http(s) or hf: address`,
    { fields: { url: base, id: of, field } },
  )
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
