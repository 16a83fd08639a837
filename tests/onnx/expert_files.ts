import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { openFile, openFolder } from '../../src/cli/file_source.ts'
import { adapterTaskVector } from '../../src/compress/adapter.ts'
import { openCheckpoint } from '../../src/compress/checkpoint.ts'
import { compressTaskVector } from '../../src/compress/compress.ts'
import { fullTaskVector } from '../../src/compress/full.ts'
import type { RuleOptions } from '../../src/compress/rules.ts'
import { memorySpool } from '../../src/format/index.ts'
import { memorySource } from '../../src/source/memory.ts'
import { ZOO } from './graphs.ts'

export const UNCOMPRESSED: RuleOptions = { dense: ['*'], denseDtype: 'f32' }
export const COMPRESSED: RuleOptions = { rule: 'published', threshold: 'tensor', density: 0.2, alpha: 2 }

/** Adapters that are to be supported, then `finetuned` and `bitfit`. */
export function expertsOf(model: string): string[] {
  const adapters = readdirSync(join(ZOO, model, 'adapters')).filter((name) => !name.startsWith('refuse_'))
  return [...adapters, ...['finetuned', 'bitfit'].filter((name) => existsSync(join(ZOO, model, name)))]
}

const files = new Map<string, Promise<Uint8Array<ArrayBuffer>>>()

/** The expert that an adapter or a fine-tuning becomes: made once for all files of a run. */
export async function expertFile(model: string, name: string, rules: RuleOptions) {
  const key = JSON.stringify([model, name, rules])
  const bytes = files.get(key) ?? make(model, name, rules)
  files.set(key, bytes)
  return memorySource(await bytes, `${name}.trit`)
}

async function make(model: string, name: string, rules: RuleOptions) {
  const base = await openCheckpoint(await openFile(join(ZOO, model, 'model.safetensors')))
  const adapter = join(ZOO, model, 'adapters', name)
  const task = existsSync(adapter)
    ? await adapterTaskVector(openFolder(adapter), base)
    : await fullTaskVector(base, await openCheckpoint(openFolder(join(ZOO, model, name))))
  const spool = memorySpool()
  const { head } = await compressTaskVector(task, rules, { spool })
  return spool.join(head)
}
