import { createReadStream } from 'node:fs'
import { type FileHandle, open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { TritswapError } from '../errors.ts'
import type { PayloadSpool } from '../format/writer.ts'

/** Takes the bytes of a new file in order. */
export interface FileWriter {
  write(bytes: Uint8Array): Promise<void>
}

/**
 * Writes a file under a temporary name beside it and renames it when `produce` is done, so that a failure leaves
 * nothing behind and nobody reads half a file.
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
