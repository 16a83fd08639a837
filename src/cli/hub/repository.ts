import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join, sep } from 'node:path'
import { isTritswapError, TritswapError } from '../../errors.ts'
import { type HubName, parseHubName } from '../../source/hf.ts'
import { note } from '../print.ts'
import { COMMIT, commitOf, explained, filesOf, type HubFile, hubSource } from './api.ts'
import { cacheFolder, download, isFile } from './download.ts'
import { type HubSettings, hubSettings } from './settings.ts'

/** A repository of the hub at one commit. */
export interface HubRepository {
  /** `hf:owner/repo@commit`, shortened. */
  name: string
  /** Paths of all its files. */
  files: readonly string[]
  /** The path of a file on this disk, where it is fetched to if need be. */
  local(path: string): Promise<string>
}

const opened = new Map<string, Promise<HubRepository>>()

/**
 * Opens the repository of a name, once a process. Where the hub is out of reach, what is in the cache is used.
 * @throws {TritswapError} `input` for a repository that is not there or may not be read, `network`
 */
export function openRepository(name: string): Promise<HubRepository> {
  const parsed = parseHubName(name)
  const settings = hubSettings()
  const key = JSON.stringify([parsed.owner, parsed.repo, parsed.revision, settings.endpoint, settings.cache])
  const known = opened.get(key)
  if (known !== undefined) return known
  const repository = open(parsed, settings)
  opened.set(key, repository)
  repository.catch(() => opened.delete(key))
  return repository
}

async function open(name: HubName, settings: HubSettings): Promise<HubRepository> {
  const folder = cacheFolder(name, settings)
  if (settings.isOffline) return cached(name, folder, 'HF_HUB_OFFLINE is set')
  try {
    const commit = COMMIT.test(name.revision) ? name.revision : await commitOf(name, settings)
    const files = await filesOf(name, commit, settings)
    await rememberCommit(folder, name.revision, commit)
    return online(name, settings, folder, commit, files)
  } catch (error) {
    // A hub that answers has the last word.
    if (!isTritswapError(error, 'network') || error.fields.status !== undefined) throw error
    try {
      const repository = await cached(name, folder, 'the hub is out of reach')
      note(`The hub is out of reach: using what was fetched of ${repository.name}`)
      return repository
    } catch {
      throw error
    }
  }
}

function online(
  name: HubName,
  settings: HubSettings,
  folder: string,
  commit: string,
  files: readonly HubFile[],
): HubRepository {
  const byPath = new Map(files.map((file) => [file.path, file]))
  const running = new Map<string, Promise<string>>()
  async function fetched(path: string): Promise<string> {
    try {
      return await download(folder, commit, byPath.get(path)!, hubSource(name, commit, path, settings))
    } catch (error) {
      throw explained(error, name, settings)
    }
  }
  return {
    name: nameAt(name, commit),
    files: [...byPath.keys()],
    local(path) {
      const known = running.get(path)
      if (known !== undefined) return known
      const local = fetched(path)
      running.set(path, local)
      local.catch(() => running.delete(path))
      return local
    },
  }
}

/** @throws {TritswapError} `input` where nothing of it was fetched */
async function cached(name: HubName, folder: string, why: string): Promise<HubRepository> {
  const commit = COMMIT.test(name.revision) ? name.revision : await rememberedCommit(folder, name.revision)
  const snapshot = join(folder, 'snapshots', commit ?? '-')
  const entries = commit === undefined ? [] : await filesBelow(snapshot)
  if (commit === undefined || entries.length === 0) {
    const { owner, repo } = name
    throw new TritswapError(
      'input',
      `Cannot open hf:${owner}/${repo}: ${why}, and nothing of it is in ${folder}`,
      {
        fields: { name: `${owner}/${repo}`, folder },
      },
    )
  }
  return {
    name: nameAt(name, commit),
    files: entries,
    local: async (path) => join(snapshot, ...path.split('/')),
  }
}

async function filesBelow(folder: string): Promise<string[]> {
  try {
    const paths = (await readdir(folder, { recursive: true })).sort()
    const files = await Promise.all(paths.map((path) => isFile(join(folder, path))))
    return paths.filter((_, i) => files[i]).map((path) => path.split(sep).join('/'))
  } catch {
    return []
  }
}

function nameAt({ owner, repo }: HubName, commit: string): string {
  return `hf:${owner}/${repo}@${commit.slice(0, 12)}`
}

async function rememberCommit(folder: string, revision: string, commit: string): Promise<void> {
  if (revision === commit || revision.split('/').some((part) => /^\.{0,2}$/.test(part))) return
  const path = join(folder, 'refs', revision)
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, commit)
}

async function rememberedCommit(folder: string, revision: string): Promise<string | undefined> {
  try {
    const commit = (await readFile(join(folder, 'refs', revision), 'utf8')).trim()
    return COMMIT.test(commit) ? commit : undefined
  } catch {
    return undefined
  }
}
