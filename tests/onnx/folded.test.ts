import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { checkModel } from '../../src/cli/check_model.ts'
import { openFile, openFolder } from '../../src/cli/file_source.ts'
import { openCheckpointAt } from '../../src/cli/inputs.ts'
import { adapterTaskVector } from '../../src/compress/adapter.ts'
import { openCheckpoint } from '../../src/compress/checkpoint.ts'
import { compressTaskVector } from '../../src/compress/compress.ts'
import { fullTaskVector } from '../../src/compress/full.ts'
import { memorySpool } from '../../src/format/index.ts'

/** Made by `authoring/folded_models.py`: graphs whose weights are not those of the checkpoint, and what torch answers. */
const FIXTURES = join(import.meta.dirname, '../fixtures/folded')
const TOLERANCE = 1e-5

const scratch = mkdtempSync(join(tmpdir(), 'tritswap-folded-'))
afterAll(() => rmSync(scratch, { recursive: true }))

/** An expert of a model, uncompressed. */
async function expertOf(model: string, name: 'tuned' | 'lora'): Promise<string> {
  const folder = join(FIXTURES, model)
  const base = await openCheckpointAt(join(folder, 'model.safetensors'))
  const task =
    name === 'lora'
      ? await adapterTaskVector(openFolder(join(folder, 'lora')), base)
      : await fullTaskVector(base, await openCheckpoint(await openFile(join(folder, 'tuned.safetensors'))))
  const spool = memorySpool()
  const { head } = await compressTaskVector(task, { dense: ['*'], denseDtype: 'f32' }, { spool })
  const path = join(scratch, `${model}-${name}.trit`)
  writeFileSync(path, spool.join(head))
  return path
}

describe('query, key and value in one weight of an Attention node', () => {
  const model = join(FIXTURES, 'bert_packed')
  const request = {
    model,
    inputs: join(model, 'expected.safetensors'),
    tolerance: TOLERANCE,
    binding: 'auto' as const,
  }

  test.each(['tuned', 'lora'] as const)(
    'with the checkpoint at hand %s gives what torch gives',
    async (name) => {
      const experts = [{ path: await expertOf('bert_packed', name), weight: 1 }]
      const report = await checkModel({ ...request, experts, wants: [name], prepare: { checkpoint: model } })
      expect(report.results.map(({ name, right }) => ({ name, right }))).toEqual([
        { name: 'base', right: true },
        { name, right: true },
      ])
    },
  )
})
