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
import { LONG } from '../tier.ts'

/** Made by `authoring/folded_models.py`: graphs whose weights are not those of the checkpoint, and what torch answers. */
const FIXTURES = join(import.meta.dirname, '../fixtures/folded')
const TOLERANCE = 1e-5

const scratch = mkdtempSync(join(tmpdir(), 'tritswap-folded-'))
afterAll(() => rmSync(scratch, { recursive: true }))

/** An expert of a model, uncompressed. */
async function expertOf(model: string, name: string): Promise<string> {
  const folder = join(FIXTURES, model)
  const base = await openCheckpointAt(join(folder, 'model.safetensors'))
  const task =
    name === 'tuned'
      ? await fullTaskVector(base, await openCheckpoint(await openFile(join(folder, 'tuned.safetensors'))))
      : await adapterTaskVector(openFolder(join(folder, name)), base)
  const spool = memorySpool()
  const { head } = await compressTaskVector(task, { dense: ['*'], denseDtype: 'f32' }, { spool })
  const path = join(scratch, `${model}-${name}.trit`)
  writeFileSync(path, spool.join(head))
  return path
}

const MODELS: [model: string, what: string, adapters: string[]][] = [
  ['bert_packed', 'query, key and value in one weight of an Attention node', ['lora']],
  ['resnet', 'batch norms in the convolutions before them', ['lora', 'dora']],
  ['wav2vec2', 'the length of a weight in its direction', ['lora', 'lora_conv']],
  ['swin', 'relative position biases looked up in advance', ['lora']],
]

describe.each(MODELS)('%s: %s', (name, _, adapters) => {
  const model = join(FIXTURES, name)
  const request = { model, inputs: join(model, 'expected.safetensors'), tolerance: TOLERANCE }
  // Each binding of each in the long tier; in the quick one every expert by one of them.
  const runs = ['tuned', ...adapters].flatMap((expert, i) =>
    (['merge', 'input'] as const)
      .filter((_, at) => LONG || at === i % 2)
      .map((binding) => ({ expert, binding })),
  )

  test.each(runs)(
    'with the checkpoint at hand $expert by $binding gives what torch gives',
    async ({ expert, binding }) => {
      const path = await expertOf(name, expert)
      const report = await checkModel({
        ...request,
        binding,
        experts: [{ path, weight: 1 }],
        wants: [expert],
        prepare: { checkpoint: model },
      })
      expect(report.results.map(({ name, right }) => ({ name, right }))).toEqual([
        { name: 'base', right: true },
        { name: expert, right: true },
      ])
      expect(report.unmatched).toEqual([])
      expect(report.experts[0].unused.filter((target) => !target.endsWith('masked_spec_embed'))).toEqual([])
    },
  )

  test('without it they are refused by name', async () => {
    const path = await expertOf(name, 'tuned')
    const experts = [{ path, weight: 1 }]
    const run = checkModel({
      ...request,
      binding: 'auto',
      experts,
      wants: ['tuned'],
      prepare: { checkpoint: 'none' },
    })
    await expect(run).rejects.toMatchObject({ tag: 'mapping', message: /--checkpoint/ })
  })
})
