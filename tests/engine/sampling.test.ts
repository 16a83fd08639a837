import { LogitsProcessorList, RepetitionPenaltyLogitsProcessor, Tensor } from '@xenova/transformers'
import { describe, expect, test } from 'vitest'
import { keepDrawn, type Sampling, samplers } from '../../src/engine/sampling.ts'
import fixture from '../fixtures/sampling.json' with { type: 'json' }

const ALL: Sampling = { temperature: 1, topK: 0, topP: 1, minP: 0, seed: 1 }

/** Probabilities after the processors of a call, without its draw, which is the last. */
function probabilities({ settings, ids, logits }: (typeof fixture.cases)[number]): number[] {
  const list = new LogitsProcessorList()
  const { repetitionPenalty, ...sampling } = settings as Partial<Sampling> & { repetitionPenalty?: number }
  if (repetitionPenalty) list.push(new RepetitionPenaltyLogitsProcessor(repetitionPenalty) as never)
  list.extend([...samplers({ ...ALL, ...sampling })!].slice(0, -1))
  const tensor = new Tensor('float32', Float32Array.from(logits), [1, logits.length])
  const kept = list._call([ids.map(BigInt)], tensor).data as Float32Array
  const weights = Array.from(kept, (logit) => Math.exp(logit - Math.max(...kept)))
  const total = weights.reduce((a, b) => a + b)
  return weights.map((weight) => weight / total)
}

describe('of the logits, what torch leaves', () => {
  for (const [at, one] of fixture.cases.entries()) {
    test(`${at}: ${JSON.stringify(one.settings)}`, () => {
      const found = probabilities(one)
      expect(found.map((p) => p > 0)).toEqual(one.probabilities.map((p) => p > 0))
      for (const [i, p] of found.entries()) expect(p).toBeCloseTo(one.probabilities[i], 5)
    })
  }
})

test('drawn is what Python draws with the same seed', () => {
  for (const { seed, logits, drawn } of fixture.draws) {
    const draw = [...samplers({ ...ALL, seed })!].at(-1)!
    const found = drawn.map(() => {
      const tensor = new Tensor('float32', Float32Array.from(logits), [1, logits.length])
      return (draw._call([[]], tensor).data as Float32Array).findIndex(
        (logit) => logit > Number.NEGATIVE_INFINITY,
      )
    })
    expect(found).toEqual(drawn)
  }
})

test('calls without a seed draw differently, and greedy ones not at all', () => {
  const [a, b] = [1, 2].map(() => {
    const draw = [...samplers({ ...ALL, seed: undefined })!].at(-1)!
    return Array.from({ length: 40 }, () =>
      (draw._call([[]], new Tensor('float32', new Float32Array(50), [1, 50])).data as Float32Array).indexOf(
        0,
      ),
    )
  })
  expect(a).not.toEqual(b)
  expect(samplers({ ...ALL, temperature: 0 })).toBeUndefined()
})

test('one token is left at the ends of the interval, whatever is filtered', () => {
  for (const drawn of [0, 1 - 2 ** -53]) {
    const logits = Float32Array.of(Number.NEGATIVE_INFINITY, -1e30, 3, Number.NEGATIVE_INFINITY)
    keepDrawn(logits, drawn)
    expect(Array.from(logits.entries()).filter(([, logit]) => logit > Number.NEGATIVE_INFINITY)).toHaveLength(
      1,
    )
  }
})
