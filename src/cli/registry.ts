import { existsSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { basename, dirname, join, relative, sep } from 'node:path'
import { parseArgs } from 'node:util'
import { TritswapError } from '../errors.ts'
import { summaryOf } from '../format/codecs/index.ts'
import { readHead, type TritHead } from '../format/head.ts'
import type { TritTable } from '../format/table.ts'
import { weightsOf } from '../format/tiling.ts'
import type { ExpertRelease, Registry, RegistryEntry } from '../source/registry.ts'
import { UsageError } from './command.ts'
import { openFile, readText } from './file_source.ts'
import { note, print, printText } from './print.ts'
import { readRegistryFiles, writeRegistryFiles } from './registry_files.ts'
import { requestsById } from './requests.ts'
import { makeKey, publicKeyIn } from './signing.ts'

export const help = `
tritswap registry build <folder> [--requests <id>=<file> …] [--out experts.json] [--key key.pem] [--json]
tritswap registry index <experts.json> [--requests <id>=<file> …] [--key key.pem]
tritswap registry replace <experts.json> <id> <new.trit> [--release 2.0] [--key key.pem]
tritswap registry rollback <experts.json> <id> [--key key.pem]
tritswap registry withdraw <experts.json> <id> --reason <text> [--key key.pem]
tritswap registry sign <experts.json> --key key.pem
tritswap registry key <key.pem>

build writes the list of experts that a page shows: one entry for each .trit file in the folder and below it,
with its size and root hash, which authenticates every byte of it for anyone who trusts the list.

Size, root hash, method, density, alpha and base are read from the files each time. Everything else that the
registry already says (order, id, label, description, prompt, system, generation, licence, samples, text, variantOf, replaces,
quality, version, previous, withdrawn) stays, so edit it by hand and build again. Entries whose files are gone are removed.

Beside it lies its index, by which a page searches all names and routes requests: centroids of the requests that each
expert was made for, of those of before where none are given, else of its samples. Over 200 experts, the entries lie in
pages of 100. index writes these again for a registry whose files are elsewhere.

replace makes a file the next release of an expert; rollback goes back to the one before. withdraw leaves an expert in the
list and out of use. sign writes experts.json.sig, without which a page that names your key takes nothing: keep the key
that key makes to yourself, and name the line that it prints, as signed-by.

  --out <path>          where to write (default: <folder>/experts.json); URLs in it are relative to the folder
  --requests <id=file>  JSON lines {"user"} or {"messages"}, or a text that is cut into passages
  --release <text>      how this release is called
  --key <file>          sign what is written
  --json                print what was written

Examples
  tritswap registry build public/experts --requests sql=sql/train.jsonl
  tritswap registry rollback public/experts/experts.json sql
`

const options = {
  out: { type: 'string' },
  requests: { type: 'string', multiple: true },
  release: { type: 'string' },
  reason: { type: 'string' },
  key: { type: 'string' },
  json: { type: 'boolean' },
} as const

interface Flags {
  out?: string
  requests?: string[]
  release?: string
  reason?: string
  key?: string
  json?: boolean
}

/** What each action takes besides flags. */
const ACTIONS: Record<
  string,
  { takes: number; expected: string; run: (args: string[], flags: Flags) => Promise<number> }
> = {
  build: { takes: 1, expected: 'one folder', run: ([folder], flags) => build(folder!, flags) },
  index: {
    takes: 1,
    expected: 'one experts.json',
    run: ([path], flags) => changed(path!, flags, (registry) => registry),
  },
  replace: {
    takes: 3,
    expected: 'experts.json, an id and a .trit file',
    run: ([path, id, file], flags) =>
      changed(path!, flags, async (registry) => replaced(registry, path!, id!, file!, flags.release)),
  },
  rollback: {
    takes: 2,
    expected: 'experts.json and an id',
    run: ([path, id], flags) => changed(path!, flags, (registry) => rolledBack(registry, path!, id!)),
  },
  withdraw: {
    takes: 2,
    expected: 'experts.json and an id',
    run: ([path, id], flags) => {
      const { reason } = flags
      if (!reason) throw new UsageError('Cannot withdraw: expected --reason <text>, which people are shown')
      return changed(path!, flags, (registry) =>
        edit(registry, path!, id!, (entry) => ({ ...entry, withdrawn: reason })),
      )
    },
  },
  sign: {
    takes: 1,
    expected: 'one experts.json',
    run: ([path], flags) => {
      if (flags.key === undefined) throw new UsageError('Cannot sign: expected --key <key.pem>')
      return changed(path!, flags, (registry) => registry)
    },
  },
  key: {
    takes: 1,
    expected: 'one path',
    run: async ([path]) => {
      printText(await makeKey(path!))
      return 0
    },
  },
}

export async function run(argv: string[]): Promise<number> {
  const { values, positionals } = parseArgs({ args: argv, options, allowPositionals: true })
  const [name = '', ...args] = positionals
  if (!Object.hasOwn(ACTIONS, name))
    throw new UsageError(`Cannot run registry: expected one of ${Object.keys(ACTIONS).join(', ')}`)
  const { takes, expected, run } = ACTIONS[name]!
  if (args.length !== takes) throw new UsageError(`Cannot run registry ${name}: expected ${expected}`)
  return run(args, values)
}

async function build(folder: string, flags: Flags): Promise<number> {
  const out = flags.out ?? join(folder, 'experts.json')
  const before = existsSync(out) ? await readRegistryFiles(out) : undefined
  return written(out, await buildRegistry(folder, before), flags)
}

/** Writes a registry again, after a change. */
async function changed(
  path: string,
  flags: Flags,
  change: (registry: Registry) => Registry | Promise<Registry>,
): Promise<number> {
  return written(path, await change(await readRegistryFiles(path)), flags)
}

async function written(
  out: string,
  registry: Registry,
  { requests = [], key, json }: Flags,
): Promise<number> {
  const given = await requestsById(requests)
  for (const id of given.keys()) entryIn(registry, out, id)
  const wasSigned = existsSync(`${out}.sig`)
  const pem = key === undefined ? undefined : await readText(key)
  const now = await writeRegistryFiles(out, registry, { requests: given, key: pem })
  if (json) printText(JSON.stringify(now, null, 2))
  else print(`${out}: ${registry.experts.length} experts`)
  if (!json && pem !== undefined) print(`signed by ${publicKeyIn(pem)}`)
  if (wasSigned && pem === undefined)
    note(`${out} was signed, and is not any more: give --key, or pages that name your key refuse it`)
  return 0
}

/** @throws {TritswapError} `input` */
function entryIn(registry: Registry, path: string, id: string): RegistryEntry {
  const entry = registry.experts.find((each) => each.id === id)
  if (entry !== undefined) return entry
  throw new TritswapError('input', `Cannot find ${id}: ${path} does not list it`, { fields: { id, path } })
}

function edit(
  registry: Registry,
  path: string,
  id: string,
  change: (entry: RegistryEntry) => RegistryEntry,
): Registry {
  const next = change(entryIn(registry, path, id))
  return { ...registry, experts: registry.experts.map((entry) => (entry.id === id ? next : entry)) }
}

/** What changes from release to release. */
const releaseOf = ({ version, url, bytes, rootHash }: ExpertRelease): ExpertRelease => ({
  ...(version !== undefined && { version }),
  url,
  bytes,
  rootHash,
})

async function replaced(
  registry: Registry,
  path: string,
  id: string,
  file: string,
  version: string | undefined,
): Promise<Registry> {
  const head = await headOf(file)
  const url = urlOf(dirname(path), file)
  return edit(registry, path, id, (entry) => {
    if (url === entry.url) {
      throw new TritswapError(
        'input',
        `Cannot replace ${id} by ${file}: it is the file that is listed; a release needs a file of its own, or nobody can go back`,
        {
          fields: { id, file },
        },
      )
    }
    const { version: _, ...rest } = entry
    const before = [releaseOf(entry), ...(entry.previous ?? [])].filter((release) => release.url !== url)
    const made = { ...entryOf(head, id, url), ...edited(rest, head.rootHash), previous: before }
    return withoutAbsent({ ...made, version })
  })
}

function rolledBack(registry: Registry, path: string, id: string): Registry {
  return edit(registry, path, id, (entry) => {
    const [last, ...earlier] = entry.previous ?? []
    if (last === undefined) {
      throw new TritswapError('input', `Cannot roll ${id} back: ${path} knows no earlier release of it`, {
        fields: { id },
      })
    }
    // Figures were measured on the file that goes.
    const { quality: _, scores: __, version: ___, previous: ____, ...rest } = entry
    return { ...rest, ...releaseOf(last), ...(earlier.length > 0 && { previous: earlier }) }
  })
}

/**
 * The registry of all experts in a folder.
 * @param before - the registry that is there: its order and its hand-written fields stay
 * @throws {TritswapError} `input` if there is none, or if they are for different bases
 */
export async function buildRegistry(folder: string, before?: Registry): Promise<Registry> {
  const paths = (await readdir(folder, { recursive: true })).filter((path) => path.endsWith('.trit')).sort()
  const known = new Map(before?.experts.map((entry, at) => [entry.url, { entry, at }]))
  const earlier = new Set(before?.experts.flatMap(({ previous = [] }) => previous.map(({ url }) => url)))
  const taken = new Set(before?.experts.map(({ id }) => id))
  const found: { entry: RegistryEntry; at: number }[] = []
  let base: Registry['base'] = before?.base
  let baseOf = ''
  for (const path of paths) {
    const head = await headOf(join(folder, path))
    if (head.table.kind !== 'expert') continue
    const { fingerprint, name } = head.table.base
    if (base?.fingerprint !== undefined && fingerprint !== undefined && fingerprint !== base.fingerprint) {
      const other = baseOf === '' ? 'the registry' : baseOf
      throw new TritswapError(
        'input',
        `Cannot list ${path} with ${other}: they are for different bases; use one folder for each base`,
        { fields: { path, expected: base.fingerprint, found: fingerprint } },
      )
    }
    if (fingerprint !== undefined && base?.fingerprint === undefined) {
      base = { name: base?.name ?? name, fingerprint }
      baseOf = path
    }
    const url = urlOf(folder, join(folder, path))
    if (earlier.has(url)) continue
    const old = known.get(url)
    const id = old?.entry.id ?? freeId(path, taken)
    found.push({
      entry: { ...entryOf(head, id, url), ...edited(old?.entry, head.rootHash) },
      at: old?.at ?? Infinity,
    })
  }
  if (found.length === 0) {
    throw new TritswapError(
      'input',
      `Cannot build a registry of ${folder}: it holds no expert; compress one first`,
      {
        fields: { folder },
      },
    )
  }
  // The sort is stable: new entries follow in the order of their paths.
  found.sort((a, b) => (a.at === b.at ? 0 : a.at - b.at))
  return { version: 1, ...(base && { base }), experts: found.map(({ entry }) => entry) }
}

/** The address of a file, relative to a folder. */
function urlOf(folder: string, file: string): string {
  return relative(folder, file).split(sep).map(encodeURIComponent).join('/')
}

async function headOf(path: string): Promise<TritHead> {
  const source = await openFile(path)
  try {
    const head = await readHead(source)
    const expected = head.headBytes + head.payloadBytes
    const size = await source.size()
    if (size !== expected) {
      throw new TritswapError(
        'format',
        `Cannot list ${path}: expected ${expected} bytes, found ${size}; fetch it again`,
        {
          fields: { path, expected, found: size },
        },
      )
    }
    return head
  } finally {
    await source.close()
  }
}

function entryOf(
  { table, headBytes, payloadBytes, rootHash }: TritHead,
  id: string,
  url: string,
): RegistryEntry {
  const f16 = 2 * table.tensors.reduce((sum, { shape }) => sum + weightsOf(shape), 0)
  const { density, alpha } = table.compression
  return {
    id,
    label: table.label ?? id,
    description: table.description,
    url,
    bytes: headBytes + payloadBytes,
    rootHash,
    method: table.method,
    density,
    alpha,
    licence: table.licence,
    prompt: table.prompt,
    replaces: replacedBy(table, f16),
  }
}

/** Terms do not tell the rank of the adapter that they were made of, so only the whole change is known of them. */
function replacedBy({ method, tensors }: TritTable, f16: number): RegistryEntry['replaces'] {
  const isFactors = method === 'lora' && tensors.every((tensor) => summaryOf(tensor).terms === undefined)
  if (isFactors) return { f16Lora: f16 }
  return method === 'full' || method === 'lora' ? { f16Delta: f16 } : undefined
}

/** What people write into a registry by hand. What was measured on one file goes when the file changes. */
function edited(entry: RegistryEntry | undefined, rootHash: string): Partial<RegistryEntry> {
  if (!entry) return {}
  const { id, label, description, prompt, system, generation, samples, licence, text, variantOf } = entry
  const { replaces, quality, scores, version, previous, withdrawn } = entry
  const written = {
    id,
    label,
    description,
    prompt,
    system,
    generation,
    samples,
    licence,
    text,
    variantOf,
    replaces,
    version,
    previous,
    withdrawn,
  }
  const fields = entry.rootHash === rootHash ? { ...written, quality, scores } : written
  return withoutAbsent(fields)
}

function withoutAbsent<T extends object>(fields: T): T {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as T
}

/** The file's name as an id that is not taken. */
function freeId(path: string, taken: Set<string>): string {
  const name =
    basename(path, '.trit')
      .replace(/[^A-Za-z0-9._-]+/g, '-')
      .replace(/^[^A-Za-z0-9]+/, '') || 'expert'
  let id = name.slice(0, 120)
  for (let n = 2; taken.has(id); n++) id = `${name.slice(0, 120)}-${n}`
  taken.add(id)
  return id
}
