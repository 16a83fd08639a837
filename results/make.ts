import { writeFile } from 'node:fs/promises'
import { openFolder, openPath } from '../src/cli/file_source.ts'
import { openCheckpoint } from '../src/compress/checkpoint.ts'
import { compressAdapter, compressCheckpoint } from '../src/compress/index.ts'
import type { RuleOptions } from '../src/compress/rules.ts'

/** Writes an expert of a full fine-tuning. @returns bytes of the file */
export async function makeFull(
  base: string,
  finetuned: string,
  options: RuleOptions,
  path: string,
): Promise<number> {
  const { file } = await compressCheckpoint({
    base: await openPath(base),
    finetuned: await openPath(finetuned),
    options,
  })
  await writeFile(path, file)
  return file.length
}

/** Writes an expert of an adapter's folder. @returns bytes of the file */
export async function makeAdapter(
  base: string,
  adapter: string,
  options: RuleOptions,
  path: string,
): Promise<number> {
  const { file } = await compressAdapter({
    base: await openPath(base),
    adapter: openFolder(adapter),
    options,
  })
  await writeFile(path, file)
  return file.length
}

/** Everything as it is, in f32: an uncompressed fine-tuning in the container of experts. */
export const UNCOMPRESSED: RuleOptions = { dense: ['*'], denseDtype: 'f32' }

/** Bytes in f16 of all that an adapter's or a fine-tuning's file holds. */
export async function f16Bytes(path: string): Promise<number> {
  const { tensors } = await openCheckpoint(await openPath(path))
  return 2 * [...tensors.values()].reduce((sum, { weights }) => sum + weights, 0)
}

/** Ways to compress a LoRA of a rank, by their names in tables: without data two terms, one for two ranks (the default), or factors. */
export function loraWays(rank: number): Record<string, RuleOptions> {
  const counts = [...new Set([2, Math.max(2, rank / 2)])]
  return {
    ...Object.fromEntries(counts.map((terms) => [termsWay(terms), { terms }])),
    'factors 20 %': { codec: 'ternary', density: 0.2 },
  }
}

/** The name of a way with so many terms. */
export function termsWay(terms: number): string {
  return terms === 1 ? '1 term' : `${terms} terms`
}
