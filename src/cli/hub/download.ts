/**
 * Files of the hub on this disk, in the cache that Python's huggingface_hub keeps: `blobs/<hash>` has the bytes,
 * `snapshots/<commit>/<path>` are links to them. What Python fetched is used, and the other way round.
 *
 * @module
 */
import { createHash, type Hash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { copyFile, mkdir, open, rename, rm, stat, symlink } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { TritswapError } from '../../errors.ts'
import type { HubName } from '../../source/hf.ts'
import type { ByteSource } from '../../source/source.ts'
import { progressBar } from '../progress.ts'
import type { HubFile } from './api.ts'
import type { HubSettings } from './settings.ts'

/** The folder of a repository in the cache. */
export function cacheFolder({ owner, repo }: HubName, { cache }: HubSettings): string {
  return join(cache, `models--${owner}--${repo}`)
}

/** Whether there is a file, through links. */
export async function isFile(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isFile()
  } catch {
    return false
  }
}

/**
 * Brings a file into the cache unless it is there.
 * @param folder - of its repository, in the cache
 * @returns its path in the snapshot
 * @throws {TritswapError} `integrity` for bytes of another hash, and what reading `source` throws
 */
export async function download(
  folder: string,
  commit: string,
  file: HubFile,
  source: ByteSource,
): Promise<string> {
  const pointer = join(folder, 'snapshots', commit, ...file.path.split('/'))
  if (await isFile(pointer)) return pointer
  const blob = join(folder, 'blobs', file.hash)
  if (!(await isFile(blob))) await fetchBlob(blob, file, source)
  await mkdir(dirname(pointer), { recursive: true })
  await rm(pointer, { force: true })
  try {
    await symlink(relative(dirname(pointer), blob), pointer)
  } catch {
    // Windows makes links for administrators only.
    await copyFile(blob, pointer)
  }
  return pointer
}

/** Fetches into a file beside the blob, which a later call goes on with after a cut. */
async function fetchBlob(blob: string, file: HubFile, source: ByteSource): Promise<void> {
  await mkdir(dirname(blob), { recursive: true })
  const partial = `${blob}.tritswap.incomplete`
  const hash = hashOf(file)
  const present = await hashPresent(partial, file, hash)
  let at = present
  const bar = progressBar(`fetching ${file.path}`)
  const target = await open(partial, at === 0 ? 'w' : 'a')
  try {
    if (at < file.bytes) {
      for await (const piece of source.stream!(at, { end: file.bytes })) {
        hash.update(piece)
        await target.writeFile(piece)
        at += piece.length
        bar.update(at, file.bytes)
      }
    }
  } finally {
    bar.stop()
    await target.close()
  }
  const found = hash.digest('hex')
  if (at !== file.bytes || found !== file.hash) {
    await rm(partial, { force: true })
    // What an earlier call left may be at fault.
    if (present > 0) return fetchBlob(blob, file, source)
    throw new TritswapError(
      'integrity',
      `Cannot use ${file.path} of the hub: expected ${file.bytes} bytes of hash ${file.hash}, found ${at} of ${found}; run the command again to fetch it anew`,
      { fields: { path: file.path, expected: file.hash, found } },
    )
  }
  await rename(partial, blob)
}

/** Hashes what an earlier call fetched. @returns how many bytes that is; more than the file has are none */
async function hashPresent(partial: string, { bytes }: HubFile, hash: Hash): Promise<number> {
  if (!(await isFile(partial))) return 0
  const { size } = await stat(partial)
  if (size > bytes) return 0
  for await (const piece of createReadStream(partial)) hash.update(piece)
  return size
}

function hashOf({ hashKind, bytes }: HubFile): Hash {
  // Git hashes a blob after its kind and size.
  return hashKind === 'sha256' ? createHash('sha256') : createHash('sha1').update(`blob ${bytes}\0`)
}
