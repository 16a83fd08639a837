import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Evaluation } from '../../src/cli/evaluation.ts'
import { gainRetained } from '../../src/cli/scores.ts'
import { deltaBytes, expertVariant, finetunedTensors } from '../../src/cli/variants.ts'
import { isTritswapError } from '../../src/errors.ts'

const PUBLIC = join(import.meta.dirname, '../../public')
const DEMO = join(import.meta.dirname, '../../../shared/demo-model')

let evaluation: Evaluation
beforeAll(async () => {
  evaluation = await Evaluation.open(join(PUBLIC, 'models/demo'))
})
afterAll(() => evaluation.close())

async function textOf(id: string) {
  return evaluation.text(await readFile(join(PUBLIC, 'texts', `${id}.txt`), 'utf8'))
}

test('bits per byte of the base are those that were measured in torch', async () => {
  // ../shared/demo-model/README.md: `story` 1.471 on the first 6 windows.
  const { base, windows } = await evaluation.score(await textOf('story'), { from: 0, count: 6 }, {})
  expect(windows).toBe(6)
  expect(base.bpb).toBeCloseTo(1.471, 3)
})

describe('against an uncompressed fine-tuning', () => {
  test('it keeps all of its own gain; a bundled expert most of it', async () => {
    const finetuned = await finetunedTensors(evaluation.base, join(DEMO, 'finetuned/css'))
    expect(deltaBytes(finetuned)).toBe(8_853_504)
    const expert = await expertVariant(evaluation.base, join(PUBLIC, 'experts/css.trit'))
    const variants = [
      finetuned,
      expert,
      await expertVariant(evaluation.base, join(PUBLIC, 'experts/css.trit'), 0),
    ]
    const result = await evaluation.score(await textOf('css'), { from: 1, count: 1 }, { finetuned, variants })
    const [itself, compressed, nothing] = result.variants
    expect(itself).toEqual({ bpb: result.finetuned?.bpb, agreement: 1, kl: 0 })
    expect(nothing.bpb).toBe(result.base.bpb)
    expect(gainRetained(result.base.bpb, itself.bpb, compressed.bpb)).toBeGreaterThan(0.8)
    expect(compressed.agreement).toBeGreaterThan(0.7)
    expect(compressed.kl).toBeLessThan(nothing.kl as number)
  })
})

test('a range behind the end of a text', async () => {
  const error = await evaluation
    .score(await textOf('css'), { from: 1000, count: 1 }, {})
    .catch((thrown: unknown) => thrown)
  expect(isTritswapError(error, 'input')).toBe(true)
})
