import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openFile, openFolder } from '../../src/cli/file_source.ts'
import { openPreparedBase } from '../../src/cli/prepared_base.ts'
import { expertVariant } from '../../src/cli/variants.ts'
import { adapterTaskVector } from '../../src/compress/adapter.ts'
import { openCheckpoint } from '../../src/compress/checkpoint.ts'
import { compressTaskVector } from '../../src/compress/compress.ts'
import { isTritswapError } from '../../src/errors.ts'
import { memorySpool } from '../../src/format/index.ts'
import { rangeOf } from '../../src/reference/index.ts'
import { UNCOMPRESSED } from './expert_files.ts'
import { lastDifference, outputsOf, prepared, SHARED, torchOutputs } from './graphs.ts'

/** A LoRA with `modules_to_save=["embed_tokens"]` on a tied Qwen2: peft leaves the head at the base. */
const MODEL = '../reports/tied-modules-to-save'
const FOLDER = join(SHARED, 'reports/tied-modules-to-save')

test('an evaluation leaves the head at the base where an adapter saves the embedding alone', async () => {
  const base = await prepared(join(FOLDER, 'base'))
  const checkpoint = await openCheckpoint(openFolder(join(FOLDER, 'base')))
  const spool = memorySpool()
  const task = await adapterTaskVector(openFolder(join(FOLDER, 'adapter')), checkpoint)
  const { head } = await compressTaskVector(task, UNCOMPRESSED, { spool })
  const path = join(base.out, 'x.trit')
  await writeFile(path, new Uint8Array(spool.join(head)))

  const folder = await openPreparedBase(base.out)
  const variant = await expertVariant(folder, path)
  if (variant.bypass === undefined) throw new Error('expected a bypass')
  const changed = new Map<string, Float32Array<ArrayBuffer>>()
  for (const name of variant.change?.targets.keys() ?? [])
    changed.set(name, await variant.change!.valuesOf(name, base.weights.tensors.get(name)!))
  const [file] = base.manifest.graphs
  const outputs = await outputsOf(MODEL, base, changed, new Map([[file, variant.bypass]]))
  const torch = await torchOutputs(MODEL, 'adapter')
  expect(lastDifference(outputs, torch) / rangeOf(torch.data as Float32Array)).toBeLessThan(1e-3)

  // A merge has no way to tell the two apart.
  const source = await openFile(path)
  const merged = await base.weights.patched(source).catch((thrown: unknown) => thrown)
  await source.close()
  expect(isTritswapError(merged, 'unsupported')).toBe(true)
  await variant.close()
  await folder.close()
})
