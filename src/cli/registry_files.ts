/**
 * A registry on disk: `experts.json`, and beside it what it authenticates: pages of entries where there are many, and the
 * index; and its signature.
 *
 * @module
 */
import { existsSync } from 'node:fs'
import { readdir, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { isTritswapError, TritswapError } from '../errors.ts'
import { sha256, toHex } from '../format/sha256.ts'
import { type Centroid, centroidsOf } from '../route/centroids.ts'
import { centroidsIn, readIndex, writeIndex } from '../route/index_file.ts'
import {
  parseRegistry,
  type Registry,
  type RegistryEntry,
  type RegistryFile,
  type RegistryPage,
} from '../source/registry.ts'
import { readText, readWhole } from './file_source.ts'
import { writeFileWhole } from './output.ts'
import { signatureBy } from './signing.ts'

/** Entries in `experts.json` itself and in each page: a page is some 100 kB. */
const PAGE = 100

/** Up to this many entries stay in one file. */
const ONE_FILE = 200

/** Entries of all pages together. @throws {TritswapError} `integrity` for a page that is not the one that is named */
export async function readRegistryFiles(path: string): Promise<Registry> {
  const { pages = [], ...first } = parseRegistry(await readText(path), path)
  const experts = [...first.experts]
  for (const page of pages) {
    const bytes = await readBeside(path, page)
    experts.push(...parseRegistry(new TextDecoder().decode(bytes), page.url).experts)
  }
  return { ...first, experts }
}

/** Centroids by id that an index beside a registry holds; none where there is no index, or it is of another space. */
export async function readCentroids(path: string): Promise<Map<string, readonly Centroid[]>> {
  if (!existsSync(path)) return new Map()
  const { index } = parseRegistry(await readText(path), path)
  if (index === undefined) return new Map()
  try {
    return centroidsIn(readIndex(await readBeside(path, index), index.url))
  } catch (error) {
    if (isTritswapError(error, 'unsupported')) return new Map()
    throw error
  }
}

/** @throws {TritswapError} `integrity` */
async function readBeside(registry: string, { url, sha256: expected }: RegistryFile) {
  const path = join(dirname(registry), decodeURIComponent(url))
  const bytes = await readWhole(path)
  if (toHex(await sha256(bytes)) === expected) return bytes
  throw new TritswapError(
    'integrity',
    `Cannot read ${path}: it is not the file that ${registry} names; build the registry again`,
    {
      fields: { path, registry },
    },
  )
}

export interface WriteOptions {
  /** Requests that experts were made for, by id; the index keeps the centroids of all others. */
  requests?: ReadonlyMap<string, readonly string[]>
  /** A private key in PEM: signs what is written. */
  key?: string
}

/**
 * Writes a registry with its pages, its index and its signature, and removes the previous ones.
 * @throws {TritswapError} `format` for what a page would refuse, before anything is written
 */
export async function writeRegistryFiles(
  path: string,
  { version, base, experts }: Registry,
  { requests, key }: WriteOptions = {},
): Promise<Registry> {
  const stem = basename(path, '.json')
  const known = await readCentroids(path)
  const files = new Map<string, Uint8Array>()
  const add = async (url: string, bytes: Uint8Array<ArrayBuffer>): Promise<RegistryFile> => {
    files.set(url, bytes)
    return { url, bytes: bytes.length, sha256: toHex(await sha256(bytes)) }
  }
  const indexed = experts.map((entry) => ({ ...entry, centroids: centroidsFor(entry, requests, known) }))
  const index = indexed.some(({ centroids }) => centroids.length > 0)
    ? await add(`${stem}.idx`, writeIndex(indexed))
    : undefined
  const first = experts.length > ONE_FILE ? experts.slice(0, PAGE) : experts
  const pages: RegistryPage[] = []
  for (let start = first.length; start < experts.length; start += PAGE) {
    const page = { version, experts: experts.slice(start, start + PAGE) }
    const url = `${stem}.${pages.length + 1}.json`
    pages.push({ ...(await add(url, jsonBytes(page))), count: page.experts.length })
  }
  const registry: Registry = {
    version,
    ...(base && { base }),
    ...(index && { index }),
    ...(pages.length > 0 && { pages }),
    experts: first,
  }
  const bytes = jsonBytes(registry)
  parseRegistry(JSON.stringify({ version, base, experts: first }), path)
  for (const [url, content] of files)
    if (url.endsWith('.json')) parseRegistry(new TextDecoder().decode(content), join(dirname(path), url))
  const signature = key === undefined ? undefined : await signatureBy(key, bytes)
  if (signature !== undefined) files.set(`${basename(path)}.sig`, new TextEncoder().encode(`${signature}\n`))
  // What it names comes first, so that no one reads a registry whose files are not there yet.
  for (const [url, content] of files) await write(join(dirname(path), url), content)
  await write(path, bytes)
  await removeOthers(path, new Set([basename(path), ...files.keys()]))
  return registry
}

/** Of requests that are given, else those that the index has, else of the entry's samples. */
function centroidsFor(
  entry: RegistryEntry,
  requests: WriteOptions['requests'],
  known: ReadonlyMap<string, readonly Centroid[]>,
): readonly Centroid[] {
  // A text would fit all compressions of one expert alike, and one that is withdrawn has no business in a route.
  if (entry.variantOf !== undefined || entry.withdrawn !== undefined) return []
  const given = requests?.get(entry.id)
  if (given !== undefined) return centroidsOf(given)
  const before = known.get(entry.id) ?? []
  if (before.length > 0) return before
  return centroidsOf(entry.samples ?? (entry.prompt === undefined ? [] : [entry.prompt]))
}

/** Pages, an index and a signature that this registry had and no longer has. */
async function removeOthers(path: string, kept: ReadonlySet<string>): Promise<void> {
  const stem = basename(path, '.json').replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
  const own = new RegExp(`^${stem}(\\.\\d+\\.json|\\.idx|\\.json\\.sig)$`)
  for (const file of await readdir(dirname(path)))
    if (own.test(file) && !kept.has(file)) await rm(join(dirname(path), file))
}

function jsonBytes(value: object): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`)
}

async function write(path: string, bytes: Uint8Array): Promise<void> {
  await writeFileWhole(path, ({ write }) => write(bytes))
}
