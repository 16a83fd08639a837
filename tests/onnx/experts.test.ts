import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import type { RuleOptions } from '../../src/compress/rules.ts'
import type { TensorValues } from '../../src/reference/index.ts'
import { COMPRESSED, expertFile, expertsOf, UNCOMPRESSED } from './expert_files.ts'
import { lastDifference, outputsOf, prepared, torchOutputs, ZOO } from './graphs.ts'

/** f32 in another order of sums, relative to the logits' range. */
const TOLERANCE = 1e-3

const GRAPHS = readdirSync(ZOO)
  .filter((model) => existsSync(join(ZOO, model, 'onnx')))
  .flatMap((model) =>
    ['onnx', 'onnx-genai']
      .filter((subfolder) => existsSync(join(ZOO, model, subfolder)))
      .map((subfolder) => ({ model, subfolder })),
  )

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
      const outputs = await outputsOf(model, base, changed)
      const torch = await torchOutputs(model, column)
      const range = Math.max(...torch.data) - Math.min(...torch.data)
      expect(lastDifference(outputs, torch) / range, column).toBeLessThan(TOLERANCE)
    }
  })
})
