import { createReadStream } from 'node:fs'
import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { TritswapError } from '../errors.ts'
import type { PayloadSpool } from '../format/writer.ts'

/** Takes the bytes of a new file in order. */
export interface FileWriter {
  write(bytes: Uint8Array): Promise<void>
}

/**
 * Where a file is to be written. A folder, or a path with a slash at its end, which is made, takes it under a name of ours.
 * @param force - whether it may take the place of another file
 * @throws {TritswapError} `input` for a path that is taken
 */
export async function outputFile(out: string, ownName: string, force = false): Promise<string> {
  if (/[\\/]$/.test(out)) await mkdir(out, { recursive: true })
  const path = (await statOf(out))?.isDirectory() ? join(out, ownName) : out
  await refuseTaken(path, force)
  return path
}

/** @throws {TritswapError} `input` for a path where there is a file, unless `force`, or something that is not a file */
export async function refuseTaken(path: string, force = false): Promise<void> {
  const there = await statOf(path)
  if (there === undefined || (force && there.isFile())) return
  const why = there.isFile()
    ? 'it is there already; give --force to write over it, or another name'
    : 'expected a path for a file, and found a folder or a device there'
  throw new TritswapError('input', `Cannot write ${path}: ${why}`, { fields: { path } })
}

/** @throws {TritswapError} `input` for a folder with something in it, unless `force`, and for anything but a folder */
export async function refuseTakenFolder(path: string, force = false): Promise<void> {
  const there = await statOf(path)
  if (there === undefined || (there.isDirectory() && (force || (await readdir(path)).length === 0))) return
  const why = there.isDirectory()
    ? 'the folder has files in it; give --force to write over those of the same names, or another folder'
    : 'expected a folder, and found a file there'
  throw new TritswapError('input', `Cannot write ${path}: ${why}`, { fields: { path } })
}

async function statOf(path: string) {
  try {
    return await stat(path)
  } catch {
    return undefined
  }
}

/**
 * Writes a file under a temporary name beside it and renames it when `produce` is done, so that a failure leaves
 * nothing behind and no one reads half a file.
 */
export async function writeFileWhole<T>(path: string, produce: (file: FileWriter) => Promise<T>): Promise<T> {
  const temporary = `${path}.${process.pid}.tmp`
  const file = await create(temporary, path)
  try {
    const result = await produce({ write: (bytes) => writeAll(file, bytes) })
    await file.close()
    await rename(temporary, path)
    return result
  } catch (error) {
    await file.close()
    await rm(temporary, { force: true })
    throw error
  }
}

/**
 * Writes a `.trit` file whose payload, which may be larger than memory, is produced before its head.
 * @param produce - appends the payload to the spool and returns the head
 */
export async function writeTrit<T extends { head: Uint8Array }>(
  path: string,
  produce: (spool: PayloadSpool) => Promise<T>,
): Promise<T> {
  const spooled = `${path}.${process.pid}.payload.tmp`
  const spool = await create(spooled, path)
  try {
    const result = await produce({ append: (bytes) => writeAll(spool, bytes) })
    await writeFileWhole(path, async ({ write }) => {
      await write(result.head)
      await pipeline(createReadStream(spooled), async (pieces: AsyncIterable<Buffer>) => {
        for await (const piece of pieces) await write(piece)
      })
    })
    return result
  } finally {
    await spool.close()
    await rm(spooled, { force: true })
  }
}

/** @param path - of the file that it becomes, for messages */
async function create(temporary: string, path: string): Promise<FileHandle> {
  try {
    return await open(temporary, 'w')
  } catch (cause) {
    const isMissing = cause instanceof Error && 'code' in cause && cause.code === 'ENOENT'
    const why = isMissing
      ? `there is no folder ${dirname(path)}; make it first`
      : cause instanceof Error
        ? cause.message
        : cause
    throw new TritswapError('input', `Cannot write ${path}: ${why}`, { fields: { path }, cause })
  }
}

async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; ) at += (await file.write(bytes, at, bytes.length - at)).bytesWritten
}
