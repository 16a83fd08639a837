/**
 * The bundled instruct model in Node, on wasm: what torch answers greedily is the first choice at every position. One pass
 * over request and answer tells, without generating. Half a minute: in the long tier.
 *
 * @module
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Evaluation } from '../../src/cli/evaluation.ts'
import { expertVariant, type Variant } from '../../src/cli/variants.ts'
import { LONG } from '../tier.ts'

const PUBLIC = join(import.meta.dirname, '../../public')

interface Answer {
  prompt: number[]
  /** As torch gives them on the checkpoint that the GGUF dequantizes to. */
  tokens: number[]
}

const FIXTURE = JSON.parse(await readFile(join(import.meta.dirname, '../fixtures/smollm2.json'), 'utf8')) as {
  base: Answer[]
  experts: Record<string, Answer>
}

describe.runIf(LONG > 0)('SmolLM2-135M-Instruct', () => {
  let evaluation: Evaluation
  beforeAll(async () => {
    evaluation = await Evaluation.open(join(PUBLIC, 'models/smollm2'))
  })
  afterAll(() => evaluation?.close())

  /** Of each answer, whether every token is the first choice. */
  async function areExact(answers: readonly Answer[], variant?: Variant): Promise<boolean[]> {
    const examples = answers.map(({ prompt, tokens }) => ({
      ids: [...prompt, ...tokens],
      first: prompt.length,
    }))
    const scores = await evaluation.score(examples, variant)
    return scores.map(({ firstChoices }, i) => firstChoices === answers[i].tokens.length)
  }

  test('answers as torch does', async () => {
    expect(await areExact(FIXTURE.base)).toEqual(FIXTURE.base.map(() => true))
  })

  test.each(Object.entries(FIXTURE.experts))(
    'with %s, as torch with its decoded weights',
    async (id, answer) => {
      const variant = await expertVariant(evaluation.base, join(PUBLIC, `experts/smollm2/${id}.trit`))
      expect(await areExact([answer], variant)).toEqual([true])
      await variant.close()
    },
    120_000,
  )
})
