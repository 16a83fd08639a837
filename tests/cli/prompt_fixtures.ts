import { join } from 'node:path'
import { openFile, openFolder } from '../../src/cli/file_source.ts'
import { adapterTaskVector } from '../../src/compress/adapter.ts'
import { openCheckpoint } from '../../src/compress/checkpoint.ts'
import { compressTaskVector } from '../../src/compress/compress.ts'
import type { RuleOptions } from '../../src/compress/rules.ts'
import { memorySpool } from '../../src/format/index.ts'
import { ZOO } from '../onnx/zoo.ts'

/** Made by `authoring/prompt_kinds.py`: adapters as peft saves them, and what torch answers to one prompt. */
export const PROMPT_KINDS = join(import.meta.dirname, '../fixtures/prompt_kinds')

/** An adapter of the fixtures as an expert; its own values by default. */
export async function fixtureFile(
  model: string,
  name: string,
  rules: RuleOptions = { dense: ['*'], denseDtype: 'f32' },
) {
  const base = await openCheckpoint(await openFile(join(ZOO, model, 'model.safetensors')))
  const task = await adapterTaskVector(openFolder(join(PROMPT_KINDS, model, name)), base)
  const spool = memorySpool()
  const { head } = await compressTaskVector(task, rules, { spool })
  return spool.join(head)
}
