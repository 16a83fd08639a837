/**
 * Folders wherever they are: on this disk, or in a repository of the hub, whose files are fetched when they are asked for.
 *
 * @module
 */
import { readdir, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { TritswapError } from '../errors.ts'
import { isHubName, parseHubName } from '../source/hf.ts'
import { type HubRepository, openRepository } from './hub/repository.ts'

/** A folder. Paths in it have `/` between their parts. */
export interface Place {
  /** As it was given, for messages. */
  name: string
  /**
   * Names of files and folders directly in it, or in a folder below it, sorted.
   * @throws {TritswapError} `input` where there is no such folder
   */
  list(folder?: string): Promise<string[]>
  /** The path of a file on this disk; whether it is there is not asked. */
  path(file: string): Promise<string>
  /** What a file in it is called in messages, and as a source of an expert. */
  title(file: string): string
  /** The path of the folder on this disk, with everything in it. */
  whole(): Promise<string>
  /** The folder that it lies in, and what it is called there; undefined above a repository. */
  parent(): { place: Place; name: string } | undefined
}

/** What is at an address: a folder, or the path of a file on this disk and a name for messages. */
export type Found = { folder: Place } | { file: string; name: string }

/**
 * Looks at a path, or at `hf:owner/repo[@revision][/path]`.
 * @throws {TritswapError} `input` where there is nothing, and what the hub refuses
 */
export async function findAt(address: string): Promise<Found> {
  if (isHubName(address)) return findOnHub(address)
  try {
    return (await stat(address)).isDirectory()
      ? { folder: diskPlace(address) }
      : { file: address, name: address }
  } catch (cause) {
    throw cannotOpen(address, cause)
  }
}

/** The folder at an address, or the one that holds the file there, with the name of that file. */
export async function placeOf(address: string): Promise<{ place: Place; file?: string }> {
  const found = await findAt(address)
  if ('folder' in found) return { place: found.folder }
  const { folder, file } = splitAddress(address)
  const holder = await findAt(folder)
  if ('folder' in holder) return { place: holder.folder, file }
  throw cannotOpen(address, new Error('it is in no folder'))
}

/** The address of a file as that of its folder, and its name there. */
export function splitAddress(address: string): { folder: string; file: string } {
  if (!isHubName(address)) return { folder: dirname(address), file: basename(address) }
  const { owner, repo, revision, path } = parseHubName(address)
  const parts = path.split('/')
  const file = parts.pop()!
  return { folder: [`hf:${owner}/${repo}@${revision}`, ...parts].join('/'), file }
}

/** The path on this disk of what is to be a file; a folder's is its own. */
export async function localPath(address: string): Promise<{ path: string; name: string }> {
  if (!isHubName(address)) return { path: address, name: address }
  const found = await findOnHub(address)
  if ('file' in found) return { path: found.file, name: found.name }
  throw new TritswapError('input', `Cannot open ${address}: it is a folder, expected a file in it`, {
    fields: { path: address },
  })
}

export function cannotOpen(path: string, cause: unknown): TritswapError {
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined
  const why =
    code === 'ENOENT' ? 'there is no such file' : cause instanceof Error ? cause.message : String(cause)
  return new TritswapError('input', `Cannot open ${path}: ${why}`, { fields: { path }, cause })
}

/** What a path or an address is called by its last part, without its ending. */
export function nameOf(address: string): string {
  const { path, repo } = isHubName(address) ? parseHubName(address) : { path: address, repo: '' }
  return basename(path === '' ? repo : resolve('/', path)).replace(/\.(trit|safetensors)$/, '')
}

function diskPlace(path: string): Place {
  const root = resolve(path)
  return {
    name: path,
    async list(folder = '') {
      try {
        return (await readdir(join(root, folder))).sort()
      } catch (cause) {
        throw new TritswapError('input', `Cannot open ${join(path, folder)}: there is no such folder`, {
          fields: { path: join(path, folder) },
          cause,
        })
      }
    },
    path: async (file) => join(root, file),
    title: (file) => join(path, file),
    whole: async () => path,
    parent: () => ({ place: diskPlace(dirname(root)), name: basename(root) }),
  }
}

async function findOnHub(address: string): Promise<Found> {
  const repository = await openRepository(address)
  const { path } = parseHubName(address)
  if (repository.files.includes(path))
    return { file: await repository.local(path), name: `${repository.name}/${path}` }
  if (path === '' || repository.files.some((file) => file.startsWith(`${path}/`)))
    return { folder: hubPlace(address, repository, path) }
  const near = [...new Set(repository.files.map((file) => file.split('/')[0]))].slice(0, 8).join(', ')
  throw new TritswapError(
    'input',
    `Cannot open ${address}: ${repository.name} has no ${path}; it has ${near}`,
    {
      fields: { path: address },
    },
  )
}

/** @param root - path of the folder in its repository; `''` for the whole */
function hubPlace(name: string, repository: HubRepository, root: string): Place {
  const below = (file: string) => [root, file].filter((part) => part !== '').join('/')
  return {
    name,
    async list(folder = '') {
      const prefix = below(folder) === '' ? '' : `${below(folder)}/`
      const names = repository.files
        .filter((file) => file.startsWith(prefix))
        .map((file) => file.slice(prefix.length).split('/', 1)[0])
      if (names.length > 0) return [...new Set(names)].sort()
      throw new TritswapError(
        'input',
        `Cannot open ${prefix} in ${repository.name}: there is no such folder`,
        {
          fields: { path: prefix },
        },
      )
    },
    async path(file) {
      const path = below(file)
      if (repository.files.includes(path)) return repository.local(path)
      throw new TritswapError('input', `Cannot open ${path} in ${repository.name}: there is no such file`, {
        fields: { path },
      })
    },
    title: (file) => `${repository.name}/${below(file)}`,
    async whole() {
      const inside = repository.files.filter((file) => root === '' || file.startsWith(`${root}/`))
      const paths = []
      for (const file of inside) paths.push(await repository.local(file))
      const up = inside[0].split('/').length - (root === '' ? 0 : root.split('/').length)
      return resolve(paths[0], ...Array<string>(up).fill('..'))
    },
    parent() {
      if (root === '') return undefined
      const parts = root.split('/')
      return { name: parts.pop()!, place: hubPlace(repository.name, repository, parts.join('/')) }
    },
  }
}
