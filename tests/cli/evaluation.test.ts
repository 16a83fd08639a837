import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Evaluation } from '../../src/cli/evaluation.ts'
import { closenessTo, type ExampleScore, gainRetained } from '../../src/cli/scores.ts'
import { type TextWindow, textWindows } from '../../src/cli/text_windows.ts'
import { checkpointVariant, expertVariant } from '../../src/cli/variants.ts'
import { isTritswapError } from '../../src/errors.ts'
import { LONG } from '../tier.ts'

const PUBLIC = join(import.meta.dirname, '../../public')
const DEMO = join(import.meta.dirname, '../../../shared/demo-model')

let evaluation: Evaluation
beforeAll(async () => {
  evaluation = await Evaluation.open(join(PUBLIC, 'models/demo'))
})
afterAll(() => evaluation.close())

async function windowsOf(id: string, from: number, count: number) {
  const text = await readFile(join(PUBLIC, 'texts', `${id}.txt`), 'utf8')
  return textWindows(text, evaluation.tokenizer, { from, count })
}

function bpb(windows: readonly TextWindow[], scores: readonly ExampleScore[]): number {
  return scores.reduce((sum, { bits }) => sum + bits, 0) / windows.reduce((sum, { bytes }) => sum + bytes, 0)
}

const examplesOf = (windows: readonly TextWindow[]) => windows.map(({ example }) => example)

// In the quick tier experts.test.ts has torch's logits, and score.test.ts what is made of them.
test.runIf(LONG > 0)('bits per byte of the base are those that were measured in torch', async () => {
  // ../shared/demo-model/README.md: `story` 1.471 on the first 6 windows.
  const windows = await windowsOf('story', 0, 6)
  expect(windows.length).toBe(6)
  expect(bpb(windows, await evaluation.score(examplesOf(windows)))).toBeCloseTo(1.471, 3)
})

describe('against an uncompressed fine-tuning', () => {
  test('it keeps all of its own gain; a bundled expert most of it; the base comes back to the bit', async () => {
    const windows = await windowsOf('css', 1, 1)
    const examples = examplesOf(windows)
    const logits = await evaluation.logitsFile()
    const base = await evaluation.score(examples)
    const finetuned = await checkpointVariant(evaluation.base, join(DEMO, 'finetuned/css'))
    expect(finetuned.f16Bytes).toBe(8_853_504)
    const tuned = await evaluation.score(examples, finetuned, { keep: logits })
    const scoreOf = async (weight?: number) => {
      const variant = await expertVariant(evaluation.base, join(PUBLIC, 'experts/css.trit'), weight)
      const scores = await evaluation.score(examples, variant, { beside: [logits] })
      await variant.close()
      return { bits: scores[0].bits, bpb: bpb(windows, scores), ...closenessTo(scores, 0) }
    }
    const [itself] = await evaluation.score(examples, finetuned, { beside: [logits] })
    expect(itself).toEqual({ ...tuned[0], beside: [{ agreeing: 255, klBits: 0 }] })
    const compressed = await scoreOf()
    const nothing = await scoreOf(0)
    expect(nothing.bits).toBe(base[0].bits)
    expect(await evaluation.score(examples)).toEqual(base)
    expect(gainRetained(bpb(windows, base), bpb(windows, tuned), compressed.bpb)).toBeGreaterThan(0.8)
    expect(compressed.agreement.value).toBeGreaterThan(0.7)
    expect(compressed.kl.value).toBeLessThan(nothing.kl.value)
    await logits.close()
  })
})

test('a range behind the end of a text', async () => {
  const error = await windowsOf('css', 1000, 1).catch((thrown: unknown) => thrown)
  expect(isTritswapError(error, 'input')).toBe(true)
})
