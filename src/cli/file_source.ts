import { closeSync, fstatSync, openSync, read as readCallback } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import type { FileFolder } from '../compress/checkpoint.ts'
import { TritswapError } from '../errors.ts'
import { shortSource } from '../source/memory.ts'
import type { ByteSource } from '../source/source.ts'

const read = promisify(readCallback)

/** A file on disk. `path` lets a worker thread open it again. */
export interface FileSource extends ByteSource {
  readonly path: string
  close(): Promise<void>
}

/** @throws {TritswapError} `input` if there is no such file or it may not be read */
export async function openFile(path: string): Promise<FileSource> {
  // A plain descriptor: Node warns about a FileHandle that is collected while open, and a caller that reads several
  // checkpoints cannot always tell which read is the last one.
  let descriptor: number
  let size: number
  try {
    descriptor = openSync(path, 'r')
    const info = fstatSync(descriptor)
    if (!info.isFile()) throw new Error('it is not a file')
    size = info.size
  } catch (cause) {
    throw cannotOpen(path, cause)
  }
  return {
    name: path,
    path,
    size: async () => size,
    async read(offset, length) {
      if (offset + length > size) throw shortSource(path, offset, length, size)
      const bytes = new Uint8Array(length)
      let filled = 0
      while (filled < length) {
        const { bytesRead } = await read(descriptor, bytes, filled, length - filled, offset + filled)
        if (bytesRead === 0) throw shortSource(path, offset, length, offset + filled)
        filled += bytesRead
      }
      return bytes
    },
    close: async () => closeSync(descriptor),
  }
}

/** A folder on disk. */
export function openFolder(path: string): FileFolder {
  return {
    name: path,
    async list() {
      try {
        return (await readdir(path)).sort()
      } catch (cause) {
        throw cannotOpen(path, cause)
      }
    },
    open: (file) => openFile(join(path, file)),
  }
}

/** A file or a folder, whichever the path names; the index of a sharded checkpoint stands for its folder. */
export async function openPath(path: string): Promise<FileSource | FileFolder> {
  if (basename(path).endsWith('.safetensors.index.json')) return openFolder(dirname(path))
  try {
    return (await stat(path)).isDirectory() ? openFolder(path) : await openFile(path)
  } catch (cause) {
    if (cause instanceof TritswapError) throw cause
    throw cannotOpen(path, cause)
  }
}

function cannotOpen(path: string, cause: unknown): TritswapError {
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined
  const why =
    code === 'ENOENT' ? 'there is no such file' : cause instanceof Error ? cause.message : String(cause)
  return new TritswapError('input', `Cannot open ${path}: ${why}`, { fields: { path }, cause })
}
