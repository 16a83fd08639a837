import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { rangeOf } from '../../src/reference/index.ts'
import { LONG } from '../tier.ts'
import { bound, mergedOutputs } from './bound.ts'
import { COMPRESSED, expertFile, expertsOf, UNCOMPRESSED } from './expert_files.ts'
import { difference, lastDifference, outputsOf, prepared, torchOutputs, ZOO } from './graphs.ts'

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
      // By side is what is compressed; in the quick tier experts.test.ts has compressed adapters.
      const quick = name === 'finetuned' ? COMPRESSED : UNCOMPRESSED
      for (const rules of LONG ? [UNCOMPRESSED, COMPRESSED] : [quick]) {
        const file = await expertFile(model, name, rules)
        if (name !== 'bitfit') {
          const torch = await torchOutputs(model, rules === COMPRESSED ? `${name}.compeft` : name)
          for (const choice of ['side', 'input'] as const) {
            const isFull = rules === COMPRESSED && name === 'finetuned'
            if (choice === 'side' && !isFull) continue
            const { outputs, inputs } = await bound(model, f32, [{ file, weight: 1 }], choice)
            expect(inputs, choice).toBeGreaterThan(0)
            expect(lastDifference(outputs, torch) / rangeOf(torch.data as Float32Array), choice).toBeLessThan(
              1e-3,
            )
          }
        }
        const { outputs } = await bound(model, q4, [{ file, weight: 1 }], 'auto')
        const merged = await outputsOf(model, dequantized, await dequantized.weights.patched(file))
        expect(difference(outputs, merged) / rangeOf(merged.logits.data), 'q4').toBeLessThan(1e-3)
      }
    },
  )
})

describe('several experts beside one base', () => {
  const model = 'llama-tiny'
  let q4: Base
  let dequantized: Base
  beforeAll(async () => {
    q4 = await prepared(join(ZOO, model), { dtype: 'q4', quantized: 'keep' })
    dequantized = await prepared(join(ZOO, model), { dtype: 'q4', storage: 'f32' })
  })

  test('are the sum of what they are worth, low-rank pairs and ternary deltas together', async () => {
    const weights = { finetuned: 0.5, lora: 1.5, lora_rslora_patterns: -1, lora_modules_to_save: 0.25 }
    const experts = []
    for (const [name, weight] of Object.entries(weights)) {
      const file = await expertFile(model, name, COMPRESSED)
      experts.push({ file, weight })
    }
    const { outputs } = await bound(model, q4, experts, 'auto')
    const merged = await mergedOutputs(model, dequantized, experts)
    expect(difference(outputs, merged) / rangeOf(merged.logits.data)).toBeLessThan(1e-3)
    // A slot that has no expert adds nothing: three deltas take room for four.
    const three = await Promise.all(
      [1, 2, 3].map(async (weight) => ({ file: await expertFile(model, 'finetuned', COMPRESSED), weight })),
    )
    const whole = await bound(model, q4, [{ file: three[0].file, weight: 6 }], 'auto')
    const parts = await bound(model, q4, three, 'auto')
    expect(parts.inputs).toBeGreaterThan(whole.inputs)
    expect(difference(parts.outputs, whole.outputs) / rangeOf(whole.outputs.logits.data)).toBeLessThan(1e-3)
  })

  test('what cannot be had is refused by name', async () => {
    const lora = await expertFile(model, 'lora', COMPRESSED)
    const attempt = (base: Base, choice: 'merge' | 'side') =>
      bound(model, base, [{ file: lora, weight: 1 }], choice)
    await expect(attempt(q4, 'merge')).rejects.toMatchObject({
      tag: 'unsupported',
      message: expect.stringContaining('its weights stay quantized'),
    })
    await expect(attempt(dequantized, 'side')).rejects.toMatchObject({
      tag: 'unsupported',
      message: expect.stringContaining('none of its tensors is a ternary change'),
    })
    const finetuned = { file: await expertFile(model, 'finetuned', COMPRESSED), weight: 0.1 }
    const nine = new Array<typeof finetuned>(9).fill(finetuned)
    await expect(bound(model, q4, nine, 'auto')).rejects.toMatchObject({
      tag: 'unsupported',
      fields: { experts: 9, limit: 8 },
    })
  })

  test('with none there is nothing to feed, and the graph is the hoisted one', async () => {
    const { inputs, outputs } = await bound(model, q4, [], 'auto')
    expect(inputs).toBe(0)
    expect(difference(outputs, await outputsOf(model, q4))).toBe(0)
  })
})
