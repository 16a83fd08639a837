import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { bound } from './bound.ts'
import { COMPRESSED, expertFile, expertsOf, UNCOMPRESSED } from './expert_files.ts'
import { difference, lastDifference, outputsOf, prepared, range, torchOutputs, ZOO } from './graphs.ts'

type Base = Awaited<ReturnType<typeof prepared>>

const GRAPHS = readdirSync(ZOO)
  .filter((model) => existsSync(join(ZOO, model, 'onnx')))
  .flatMap((model) =>
    ['onnx', 'onnx-genai']
      .filter((subfolder) => existsSync(join(ZOO, model, subfolder)))
      .map((subfolder) => ({ model, subfolder })),
  )

describe.each(GRAPHS)('beside the weights of $model/$subfolder', ({ model, subfolder }) => {
  let f32: Base
  let q4: Base
  let dequantized: Base
  beforeAll(async () => {
    const path = join(ZOO, model)
    f32 = await prepared(path, { subfolder })
    q4 = await prepared(path, { subfolder, dtype: 'q4', quantized: 'keep' })
    dequantized = await prepared(path, { subfolder, dtype: 'q4', storage: 'f32' })
  })

  test.each(expertsOf(model))(
    '%s: torch’s outputs on f32, and those of dequantized weights on q4',
    async (name) => {
      for (const rules of [UNCOMPRESSED, COMPRESSED]) {
        const file = await expertFile(model, name, rules)
        if (name !== 'bitfit') {
          const torch = await torchOutputs(model, rules === COMPRESSED ? `${name}.compeft` : name)
          for (const choice of ['side', 'input'] as const) {
            const isFull = rules === COMPRESSED && name === 'finetuned'
            if (choice === 'side' && !isFull) continue
            const { outputs, inputs } = await bound(model, f32, [{ file, weight: 1 }], choice)
            expect(inputs, choice).toBeGreaterThan(0)
            expect(lastDifference(outputs, torch) / range(torch.data as Float32Array), choice).toBeLessThan(
              1e-3,
            )
          }
        }
        const { outputs } = await bound(model, q4, [{ file, weight: 1 }], 'auto')
        const merged = await outputsOf(model, dequantized, await dequantized.weights.patched(file))
        expect(difference(outputs, merged) / range(merged.logits.data), 'q4').toBeLessThan(1e-3)
      }
    },
  )
})
