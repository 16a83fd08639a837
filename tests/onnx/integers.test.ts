import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { rangeOf } from '../../src/reference/index.ts'
import { LONG } from '../tier.ts'
import { bound } from './bound.ts'
import { COMPRESSED, expertFile, expertsOf } from './expert_files.ts'
import { lastDifference, type Outputs, outputsOf, prepared, torchOutputs, ZOO } from './graphs.ts'

type Base = Awaited<ReturnType<typeof prepared>>

const MODELS = ['bert-tiny-classify', 'gpt2-tiny', 'llama-tiny', 'qwen2-tiny', 't5-tiny', 'vit-tiny']

describe.each(MODELS)('beside the integers of %s', (model) => {
  let base: Base
  let without: Outputs
  let rounding: number
  beforeAll(async () => {
    base = await prepared(join(ZOO, model), { dtype: 'q8' })
    const torch = await torchOutputs(model, 'base')
    without = await outputsOf(model, base)
    rounding = lastDifference(without, torch) / rangeOf(torch.data as Float32Array)
  })

  // In the quick tier variants.test.ts has every adapter beside f32 and q4.
  const isTried = (name: string, at: number) => (LONG ? name !== 'bitfit' : at === 0 || name === 'finetuned')
  test.each(expertsOf(model).filter(isTried))('%s is as near to torch as the base is', async (name) => {
    const torch = await torchOutputs(model, `${name}.compeft`)
    const file = await expertFile(model, name, COMPRESSED)
    const { outputs } = await bound(model, base, [{ file, weight: 1 }], 'auto')
    const off = lastDifference(outputs, torch) / rangeOf(torch.data as Float32Array)
    const offWithout = lastDifference(without, torch) / rangeOf(torch.data as Float32Array)
    // Bytes of activations round anew wherever an expert changes them.
    expect(off).toBeLessThan(Math.max(4 * rounding, 0.05))
    expect(off).toBeLessThan(0.5 * offWithout)
  })
})
