import { readdir, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { TritswapError } from '../errors.ts'
import { isHubName } from '../source/hf.ts'
import type { Registry, RegistryEntry } from '../source/registry.ts'
import { jsonOption, newCommand, several } from './command.ts'
import { readText } from './file_source.ts'
import { note, print, printText } from './print.ts'
import { edited, entryOf, headOf, urlOf } from './registry_entry.ts'
import { readRegistryFiles, writeRegistryFiles } from './registry_files.ts'
import { entryIn, replaced, rolledBack, withdrawn } from './registry_releases.ts'
import { requestsById } from './requests.ts'
import { makeKey, publicKeyIn } from './signing.ts'

const DESCRIPTION = `
Writes the list of experts that a page shows: one entry for each .trit file in the folder and below it, with its size and
root hash, which authenticates every byte of it for anyone who trusts the list.

Size, root hash, method, density, alpha and base are read from the files each time. Everything else that the registry
already says (order, id, label, description, prompt, system, generation, licence, samples, text, variantOf, replaces, quality,
version, previous, withdrawn) stays, so edit it by hand and build again. Entries whose files are gone are removed. A file
that is no registry is never written over.

Beside it lies its index, by which a page searches all names and routes requests: centroids of the requests that each
expert was made for (of those of before where none are given, else of its samples). Over 200 experts, the entries lie in
pages of 100.
`

const EXAMPLES = ['tritswap registry build experts', 'tritswap registry build experts --out listed.json']

export function command() {
  const registry = newCommand('registry', 'Lists the experts of a folder for a page.', EXAMPLES)
  registry.addCommand(
    newCommand('build', DESCRIPTION, EXAMPLES)
      .summary('write experts.json, and its index')
      .argument('<folder>')
      .option(
        '--out <path>',
        'where to write (default: <folder>/experts.json); URLs in it are relative to the folder',
      )
      .option(...REQUESTS)
      .option(...KEY)
      .addOption(jsonOption('what was written'))
      .action(build),
  )
  registry.addCommand(
    changing(
      'index',
      'Writes the index, and pages, of a registry whose files are elsewhere.',
      'write the index again',
    )
      .option(...REQUESTS)
      .action((path, values) => changed(path, values, (before) => before)),
  )
  registry.addCommand(
    changing(
      'replace',
      'Makes a file the next release of an expert. The one before stays where it is, to go back to.',
      'publish a new release',
    )
      .argument('<id>')
      .argument('<new.trit>')
      .option('--release <text>', 'how this release is called')
      .action((path, id, file, values) =>
        changed(path, values, (before) => replaced(before, path, id, file, values.release)),
      ),
  )
  registry.addCommand(
    changing(
      'rollback',
      'Goes back to the release of an expert before this one.',
      'go back to the release before',
    )
      .argument('<id>')
      .action((path, id, values) => changed(path, values, (before) => rolledBack(before, path, id))),
  )
  registry.addCommand(
    changing(
      'withdraw',
      'Leaves an expert in the list and out of use: loaders refuse it, and no route leads to it.',
      'take an expert out of use',
    )
      .argument('<id>')
      .requiredOption('--reason <text>', 'which people are shown')
      .action((path, id, values) =>
        changed(path, values, (before) => withdrawn(before, path, id, values.reason)),
      ),
  )
  registry.addCommand(
    changing(
      'sign',
      'Writes experts.json.sig, without which a page that names your key takes nothing.',
      'sign a registry',
    ).action((path, values) => changed(path, values, (before) => before)),
  )
  registry.addCommand(
    newCommand(
      'key',
      'Makes a key that signs registries, which you keep to yourself, and prints the public one, which pages name.',
      [],
    )
      .summary('make a key that signs')
      .argument('<key.pem>')
      .action(async (path) => printText(await makeKey(path))),
  )
  return registry
}

const REQUESTS = [
  '--requests <id=file>',
  'requests that an expert was made for: JSON lines {"user"} or {"messages"}, or a text that is cut into passages',
  several,
] as const

const KEY = ['--key <key.pem>', 'sign what is written'] as const

/** A command that writes a registry again. */
function changing(name: string, description: string, summary: string) {
  return newCommand(name, description, [])
    .summary(summary)
    .argument('<experts.json>')
    .option(...KEY)
}

interface Written {
  requests?: readonly string[]
  key?: string
  json?: true
}

async function build(folder: string, values: Written & { out?: string }): Promise<void> {
  await checkFolder(folder)
  const out = values.out ?? join(folder, 'experts.json')
  const before = (await isThere(out)) ? await readRegistryFiles(out) : undefined
  await write(out, await buildRegistry(folder, before), values)
}

/** Writes a registry again, after a change. */
async function changed(
  path: string,
  values: Written,
  change: (registry: Registry) => Registry | Promise<Registry>,
): Promise<void> {
  await write(path, await change(await readRegistryFiles(path)), values)
}

async function write(out: string, registry: Registry, { requests = [], key, json }: Written): Promise<void> {
  const given = await requestsById(requests)
  for (const id of given.keys()) entryIn(registry, out, id)
  const wasSigned = await isThere(`${out}.sig`)
  const pem = key === undefined ? undefined : await readText(key)
  const now = await writeRegistryFiles(out, registry, { requests: given, key: pem })
  if (json) printText(JSON.stringify(now, null, 2))
  else {
    const { length } = registry.experts
    print(`${out}: ${length} ${length === 1 ? 'expert' : 'experts'}`)
  }
  if (!json && pem !== undefined) print(`signed by ${publicKeyIn(pem)}`)
  if (wasSigned && pem === undefined)
    note(`${out} was signed, and is not any more: give --key, or pages that name your key refuse it`)
}

/** @throws {TritswapError} `input` for anything but a folder on this disk */
async function checkFolder(folder: string): Promise<void> {
  const bad = (why: string) =>
    new TritswapError('input', `Cannot build a registry of ${folder}: ${why}`, { fields: { folder } })
  if (isHubName(folder)) throw bad('expected a folder on this disk, for the list is written into it')
  if (!(await isThere(folder))) throw bad('there is no such folder')
  if (!(await stat(folder)).isDirectory()) throw bad('it is a file; give the folder that it is in')
}

async function isThere(path: string): Promise<boolean> {
  try {
    await stat(path)
    return true
  } catch {
    return false
  }
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
