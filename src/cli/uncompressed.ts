import { stat } from 'node:fs/promises'
import { ADAPTER_CONFIG } from '../compress/adapter.ts'
import type { Checkpoint } from '../compress/checkpoint.ts'
import { compressTaskVector } from '../compress/compress.ts'
import type { RuleOptions } from '../compress/rules.ts'
import type { TaskVector } from '../compress/task_vector.ts'
import { openTaskVector } from './inputs.ts'
import { writeTrit } from './output.ts'
import { findAt, placeOf } from './place.ts'
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
  const { place } = await placeOf(path)
  if (!(await place.list()).includes(ADAPTER_CONFIG)) return checkpointVariant(base, path)
  await writeUncompressed(await openTaskVector({ adapter: path }, checkpoint), scratch)
  return expertVariant(base, scratch)
}

/** Bytes of a file; undefined for a folder. */
export async function fileBytes(address: string): Promise<number | undefined> {
  const found = await findAt(address)
  return 'file' in found ? (await stat(found.file)).size : undefined
}
