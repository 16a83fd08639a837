import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { openFile, openFolder } from '../../src/cli/file_source.ts'
import { adapterTaskVector } from '../../src/compress/adapter.ts'
import { openCheckpoint } from '../../src/compress/checkpoint.ts'
import { compressTaskVector } from '../../src/compress/compress.ts'
import { fullTaskVector } from '../../src/compress/full.ts'
import type { RuleOptions } from '../../src/compress/rules.ts'
import { memorySpool } from '../../src/format/index.ts'
import type { TensorValues } from '../../src/model/reference_weights.ts'
import { memorySource } from '../../src/source/memory.ts'
import { lastDifference, outputsOf, prepared, torchOutputs, ZOO } from './graphs.ts'

/** f32 in another order of sums, relative to the logits' range. */
const TOLERANCE = 1e-3

const UNCOMPRESSED: RuleOptions = { dense: ['*'], denseDtype: 'f32' }
const COMPRESSED: RuleOptions = { rule: 'published', threshold: 'tensor', density: 0.2, alpha: 2 }

const GRAPHS = readdirSync(ZOO)
  .filter((model) => existsSync(join(ZOO, model, 'onnx')))
  .flatMap((model) =>
    ['onnx', 'onnx-genai']
      .filter((subfolder) => existsSync(join(ZOO, model, subfolder)))
      .map((subfolder) => ({ model, subfolder })),
  )

/** Adapters that are to be supported, then `finetuned` and `bitfit`. */
function expertsOf(model: string): string[] {
  const adapters = readdirSync(join(ZOO, model, 'adapters')).filter((name) => !name.startsWith('refuse_'))
  return [...adapters, ...['finetuned', 'bitfit'].filter((name) => existsSync(join(ZOO, model, name)))]
}

async function expertFile(model: string, name: string, rules: RuleOptions) {
  const base = await openCheckpoint(await openFile(join(ZOO, model, 'model.safetensors')))
  const adapter = join(ZOO, model, 'adapters', name)
  const task = existsSync(adapter)
    ? await adapterTaskVector(openFolder(adapter), base)
    : await fullTaskVector(base, await openCheckpoint(openFolder(join(ZOO, model, name))))
  const spool = memorySpool()
  const { head } = await compressTaskVector(task, rules, { spool })
  return memorySource(spool.join(head), `${name}.trit`)
}

describe.each(GRAPHS)('$model/$subfolder', ({ model, subfolder }) => {
  let base: Awaited<ReturnType<typeof prepared>>
  beforeAll(async () => {
    base = await prepared(join(ZOO, model), { subfolder })
  })

  test.each(expertsOf(model))('%s gives what torch gives, uncompressed and compressed', async (name) => {
    const columns: [RuleOptions, string][] = [[UNCOMPRESSED, name]]
    // Biases alone were not compressed by those who made the reference.
    if (name !== 'bitfit') columns.push([COMPRESSED, `${name}.compeft`])
    for (const [rules, column] of columns) {
      const changed: TensorValues = await base.weights.patched(await expertFile(model, name, rules))
      const outputs = await outputsOf(model, base, subfolder, changed)
      const torch = await torchOutputs(model, column)
      const range = Math.max(...torch.data) - Math.min(...torch.data)
      expect(lastDifference(outputs, torch) / range, column).toBeLessThan(TOLERANCE)
    }
  })
})
