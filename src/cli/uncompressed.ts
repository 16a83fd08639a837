import { existsSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import type { Checkpoint } from '../compress/checkpoint.ts'
import { compressTaskVector } from '../compress/compress.ts'
import type { RuleOptions } from '../compress/rules.ts'
import type { TaskVector } from '../compress/task_vector.ts'
import { openTaskVector } from './inputs.ts'
import { writeTrit } from './output.ts'
import type { PreparedBase } from './prepared_base.ts'
import { checkpointVariant, expertVariant, type Variant } from './variants.ts'

/** Writes a whole task vector in the container of experts, so that it is scored as they are. */
export async function writeUncompressed(
  task: TaskVector,
  path: string,
  { include, exclude }: Pick<RuleOptions, 'include' | 'exclude'> = {},
): Promise<void> {
  const rules = { include, exclude, dense: ['*'], denseDtype: 'f32' } as const
  await writeTrit(path, (spool) => compressTaskVector(task, rules, { spool }))
}

/**
 * The base as an uncompressed fine-tuning changes it.
 * @param path - an adapter as peft saves it, safetensors of a fine-tuned model, or a `.trit` file with dense tensors
 * @param scratch - path of a file to write an adapter to
 * @param checkpoint - of the base, for adapters that save modules whole
 * @throws {TritswapError} as {@link expertVariant} and {@link checkpointVariant}
 */
export async function uncompressedVariant(
  base: PreparedBase,
  path: string,
  scratch: string,
  checkpoint?: Checkpoint,
): Promise<Variant> {
  if (path.endsWith('.trit')) return expertVariant(base, path)
  if (!existsSync(join(path, 'adapter_config.json'))) return checkpointVariant(base, path)
  await writeUncompressed(await openTaskVector({ adapter: path }, checkpoint), scratch)
  return expertVariant(base, scratch)
}

/** Bytes of a file; undefined for a folder. */
export async function fileBytes(path: string): Promise<number | undefined> {
  const info = await stat(path)
  return info.isFile() ? info.size : undefined
}

/** What an expert or a fine-tuning is called by its path. */
export function nameOf(path: string): string {
  return basename(path).replace(/\.(trit|safetensors)$/, '')
}
