import { createReadStream, createWriteStream } from 'node:fs'
import { rm, stat } from 'node:fs/promises'
import { basename } from 'node:path'
import { pipeline } from 'node:stream/promises'

/**
 * Cuts a file into parts of about one size that lie beside it, `<file>.0` and so on, and removes it.
 * @returns the parts in order; undefined where the file is small enough to stay whole
 */
export async function splitFile(
  path: string,
  mostBytes = Number.POSITIVE_INFINITY,
): Promise<{ file: string; bytes: number }[] | undefined> {
  const { size } = await stat(path)
  if (size <= mostBytes) return undefined
  const count = Math.ceil(size / mostBytes)
  const partBytes = Math.ceil(size / count)
  const parts = []
  for (let i = 0; i < count; i++) {
    const start = i * partBytes
    const end = Math.min(size, start + partBytes)
    await pipeline(createReadStream(path, { start, end: end - 1 }), createWriteStream(`${path}.${i}`))
    parts.push({ file: `${basename(path)}.${i}`, bytes: end - start })
  }
  await rm(path)
  return parts
}
