/**
 * Changes of one entry of a registry: its next release, the way back, and the end of it.
 *
 * @module
 */
import { dirname } from 'node:path'
import { TritswapError } from '../errors.ts'
import type { ExpertRelease, Registry, RegistryEntry } from '../source/registry.ts'
import { edited, entryOf, headOf, urlOf, withoutAbsent } from './registry_entry.ts'

/** @throws {TritswapError} `input` for an id that is not listed */
export function entryIn(registry: Registry, path: string, id: string): RegistryEntry {
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

/** Makes a file the next release of an expert. @throws {TritswapError} `input` for the file that is listed */
export async function replaced(
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

/** Goes back to the release before. @throws {TritswapError} `input` where none is known */
export function rolledBack(registry: Registry, path: string, id: string): Registry {
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

/** Leaves an expert in the list, and out of use. @param reason - which people are shown */
export function withdrawn(registry: Registry, path: string, id: string, reason: string): Registry {
  return edit(registry, path, id, (entry) => ({ ...entry, withdrawn: reason }))
}
