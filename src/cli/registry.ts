import { readdir, stat } from 'node:fs/promises'
import { basename, join, relative, sep } from 'node:path'
import { TritswapError } from '../errors.ts'
import { summaryOf } from '../format/codecs/index.ts'
import { readHead, type TritHead } from '../format/head.ts'
import type { TritTable } from '../format/table.ts'
import { weightsOf } from '../format/tiling.ts'
import { isHubName } from '../source/hf.ts'
import { parseRegistry, type Registry, type RegistryEntry } from '../source/registry.ts'
import { jsonOption, newCommand } from './command.ts'
import { openFile, readText } from './file_source.ts'
import { writeFileWhole } from './output.ts'
import { print, printText } from './print.ts'

const DESCRIPTION = `
Writes the list of experts that a page shows: one entry for each .trit file in the folder and below it, with its size and
root hash, which authenticates every byte of it for anyone who trusts the list.

Size, root hash, method, density, alpha and base are read from the files each time. Everything else that the registry
already says (order, id, label, description, prompt, system, generation, licence, text, variantOf, replaces, quality)
stays, so edit it by hand and build again. Entries whose files are gone are removed. A file that is no registry is never
written over.
`

const EXAMPLES = ['tritswap registry build experts', 'tritswap registry build experts --out listed.json']

export function command() {
  const registry = newCommand('registry', 'Lists the experts of a folder for a page.', EXAMPLES)
  registry.addCommand(
    newCommand('build', DESCRIPTION, EXAMPLES)
      .summary('write experts.json')
      .argument('<folder>')
      .option(
        '--out <path>',
        'where to write (default: <folder>/experts.json); URLs in it are relative to the folder',
      )
      .addOption(jsonOption('what was written'))
      .action(build),
  )
  return registry
}

async function build(folder: string, values: { out?: string; json?: true }): Promise<void> {
  await checkFolder(folder)
  const out = values.out ?? join(folder, 'experts.json')
  const before = (await isThere(out)) ? parseRegistry(await readText(out), out) : undefined
  const registry = await buildRegistry(folder, before)
  const text = `${JSON.stringify(registry, null, 2)}\n`
  // Throws before anything is written that the page would refuse.
  parseRegistry(text, out)
  await writeFileWhole(out, ({ write }) => write(new TextEncoder().encode(text)))
  if (values.json) printText(text.trimEnd())
  else print(`${out}: ${registry.experts.length} experts`)
}

/** @throws {TritswapError} `input` for what is no folder on this disk */
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
    const url = relative(folder, join(folder, path)).split(sep).map(encodeURIComponent).join('/')
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
  const { replaces, quality, scores } = entry
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
  }
  const fields = entry.rootHash === rootHash ? { ...written, quality, scores } : written
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined))
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
