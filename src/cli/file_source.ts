import { closeSync, constants, fstatSync, openSync, read as readCallback } from 'node:fs'
import { promisify } from 'node:util'
import type { FileFolder } from '../compress/checkpoint.ts'
import { TritswapError } from '../errors.ts'
import { shortSource } from '../source/memory.ts'
import { shortOrMistaken, TELLING_BYTES } from '../source/mistaken_file.ts'
import type { ByteSource } from '../source/source.ts'
import { cannotOpen, findAt, localPath, type Place, placeOf, splitAddress } from './place.ts'

const read = promisify(readCallback)

/** A file on disk. `path` lets a worker thread open it again. */
export interface FileSource extends ByteSource {
  readonly path: string
  close(): Promise<void>
}

/**
 * Opens a regular file, through links if need be: a hub's cache is made of them.
 * @param address - a path, or `hf:owner/repo/path`, which is fetched if need be
 * @throws {TritswapError} `input` if there is no such file, it may not be read, or is a device, a pipe or a folder
 */
export async function openFile(address: string): Promise<FileSource> {
  const { path, name } = await localPath(address)
  return openLocal(path, name)
}

/** @param name - for messages, and of the file as a source of an expert */
async function openLocal(path: string, name: string): Promise<FileSource> {
  // A plain descriptor: Node warns about a FileHandle that is collected while open, and a caller that reads several
  // checkpoints cannot always tell which read is the last one.
  let descriptor: number
  let size: number
  try {
    // A pipe would hold up a call that opens it until somebody writes to it.
    descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
    const info = fstatSync(descriptor)
    if (!info.isFile()) {
      closeSync(descriptor)
      throw new Error('it is a folder, a device or a pipe, not a file')
    }
    size = info.size
  } catch (cause) {
    throw cannotOpen(name, cause)
  }
  async function readThere(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = new Uint8Array(length)
    let filled = 0
    while (filled < length) {
      const { bytesRead } = await read(descriptor, bytes, filled, length - filled, offset + filled)
      if (bytesRead === 0) throw shortSource(name, offset, length, offset + filled)
      filled += bytesRead
    }
    return bytes
  }
  return {
    name,
    path,
    size: async () => size,
    async read(offset, length) {
      if (offset + length <= size) return readThere(offset, length)
      throw shortOrMistaken(
        shortSource(name, offset, length, size),
        await readThere(0, Math.min(size, TELLING_BYTES)),
      )
    },
    close: async () => closeSync(descriptor),
  }
}

/** Protocol buffers, and so ONNX graphs, end at 2 GiB; Node reads no more at once. */
const MAX_WHOLE_BYTES = 2 ** 31 - 1

/**
 * The bytes of a file, no more than it has when it is opened.
 * @throws {TritswapError} as {@link openFile}; `limit` for 2 GiB and more
 */
export async function readWhole(path: string): Promise<Uint8Array<ArrayBuffer>> {
  const file = await openFile(path)
  try {
    const size = (await file.size())!
    if (size > MAX_WHOLE_BYTES) {
      const fields = { path, found: size, limit: MAX_WHOLE_BYTES }
      throw new TritswapError(
        'limit',
        `Cannot read ${path}: its ${size} bytes are over the limit of ${MAX_WHOLE_BYTES}; a graph keeps larger weights in a file beside it`,
        { fields },
      )
    }
    return await file.read(0, size)
  } finally {
    await file.close()
  }
}

/** The same as text. */
export async function readText(path: string): Promise<string> {
  return new TextDecoder().decode(await readWhole(path))
}

/** The files of a folder. */
export function filesIn(place: Place): FileFolder {
  return {
    name: place.name,
    list: () => place.list(),
    open: async (file) => openLocal(await place.path(file), place.title(file)),
  }
}

const SHARD_INDEX = /\.safetensors\.index\.json(@[^/]*)?$/

/** A file or a folder, whichever the address names; the index of a sharded checkpoint stands for its folder. */
export async function openPath(address: string): Promise<FileSource | FileFolder> {
  const found = await findAt(SHARD_INDEX.test(address) ? splitAddress(address).folder : address)
  return 'folder' in found ? filesIn(found.folder) : openLocal(found.file, found.name)
}

/** The files of the folder at an address, or of the one that holds the file there; it is looked for at the first call. */
export function openFolder(address: string): FileFolder {
  let found: Promise<FileFolder> | undefined
  const folder = () => {
    found ??= placeOf(address).then(({ place }) => filesIn(place))
    return found
  }
  return {
    name: address,
    list: async () => (await folder()).list(),
    open: async (file) => (await folder()).open(file),
  }
}
