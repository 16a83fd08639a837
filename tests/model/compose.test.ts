import { describe, expect, test } from 'vitest'
import { isTritswapError } from '../../src/errors.ts'
import {
  composeWeights,
  type ExampleBits,
  type GroupWeights,
  MAX_COMPOSED,
  type ScoreWeights,
} from '../../src/model/compose.ts'

/** Examples of 10 tokens of a model with layers: bits by the squared distance of each group of each expert from its best weight. */
function examplesByLayers(best: number[][], count = 3) {
  const asked: { weights: readonly number[]; groups?: GroupWeights }[] = []
  const score: ScoreWeights = async (weights, groups) => {
    asked.push({ weights, groups })
    const squares = best.map((row, i) =>
      row.reduce((sum, own, g) => sum + (own - (groups?.[i][g] ?? weights[i])) ** 2 / row.length, 0),
    )
    const bits = 10 + 10 * squares.reduce((sum, value) => sum + value, 0)
    return Array.from({ length: count }, () => ({ bits, tokens: 10 }))
  }
  return { score, asked }
}

/** Examples of 10 tokens that cost 1 bit each at their own best weights, and more by the squared distance from them. */
function examplesWith(...best: number[][]) {
  const asked: number[][] = []
  const score = async (weights: readonly number[]): Promise<ExampleBits[]> => {
    asked.push([...weights])
    return best.map((own) => {
      const squares = own.reduce((sum, value, i) => sum + (value - weights[i]) ** 2, 0)
      return { bits: 10 + 10 * squares, tokens: 10 }
    })
  }
  return { score, asked }
}

describe('weights of a composition', () => {
  test('come close to the best ones, and win where the examples agree', async () => {
    const { score, asked } = examplesWith([0.75, -0.25, 0], [0.75, -0.25, 0], [0.7, -0.3, 0.05])
    const found = await composeWeights(3, score, { regularization: 0 })
    expect(found.name).toBe('composed')
    for (const [i, best] of [0.75, -0.25, 0].entries())
      expect(Math.abs(found.weights[i] - best)).toBeLessThan(0.1)
    expect(found.gain.value).toBeGreaterThan(found.gain.se)
    expect(found.evaluations).toBe(asked.length)
    expect(new Set(asked.map(String)).size).toBe(asked.length)
  })

  test('are the best single expert where nothing beats it', async () => {
    const { score } = examplesWith([0, 1], [0, 1])
    const found = await composeWeights(2, score)
    expect(found).toMatchObject({ name: 'alone', weights: [0, 1], bitsPerToken: 1 })
  })

  test('are none where every expert does harm', async () => {
    const { score } = examplesWith([0, 0], [0, 0])
    expect((await composeWeights(2, score)).name).toBe('nothing')
  })

  test('lose to a candidate where the examples disagree more than the composition gains', async () => {
    // The mean of the two is best, and 0.04 bits better than each alone, which one example pays for the other.
    const { score } = examplesWith([1, 0], [0.6, 0])
    const found = await composeWeights(2, score, { regularization: 0 })
    expect(found.name).toBe('alone')
    expect(found.gain.value).toBeGreaterThan(0)
    expect(found.candidates.at(-1)).toMatchObject({ name: 'composed' })
    expect(found.candidates.at(-1)!.bitsPerToken).toBeLessThan(found.bitsPerToken)
  })

  test('are kept small by the regularization, and within the limit', async () => {
    const far = examplesWith([4, 0], [4, 0])
    const { weights } = await composeWeights(2, far.score, { limit: 1.25 })
    expect(weights[0]).toBeLessThanOrEqual(1.25)
    expect(far.asked.flat().every((weight) => Math.abs(weight) <= 1.25)).toBe(true)
    const weak = examplesWith([1, 0.1], [1, 0.1])
    const found = await composeWeights(2, weak.score, { regularization: 0.5 })
    expect(found.candidates.at(-1)!.weights[1]).toBe(0)
  })

  test('name every candidate: none, each alone, the average, the composition', async () => {
    const { candidates } = await composeWeights(2, examplesWith([1, 1], [1, 1]).score)
    expect(candidates.map(({ name, weights }) => [name, ...weights]).slice(0, -1)).toEqual([
      ['nothing', 0, 0],
      ['alone', 1, 0],
      ['alone', 0, 1],
      ['average', 0.5, 0.5],
    ])
  })

  test('take no more evaluations than asked for, and say how far they are', async () => {
    const { score, asked } = examplesWith([0.3, 0.6, -0.9], [0.3, 0.6, -0.9])
    const progress: number[] = []
    await composeWeights(3, score, { evaluations: 11, onProgress: ({ done }) => progress.push(done) })
    expect(asked.length).toBeLessThanOrEqual(11)
    expect(progress).toEqual(asked.map((_, i) => i + 1))
  })

  test('are not searched any further after an abort', async () => {
    const { score, asked } = examplesWith([0.3, 0.6], [0.3, 0.6])
    const stop = new AbortController()
    const search = composeWeights(2, score, {
      signal: stop.signal,
      onProgress: ({ done }) => {
        if (done === 6) stop.abort()
      },
    })
    await expect(search).rejects.toMatchObject({ name: 'AbortError' })
    expect(asked).toHaveLength(6)
  })

  test('of none, of too many, and on no examples are refused', async () => {
    const isInput = (error: unknown) => isTritswapError(error, 'input')
    const { score } = examplesWith([1])
    await expect(composeWeights(0, score)).rejects.toSatisfy(isInput)
    await expect(composeWeights(MAX_COMPOSED + 1, score)).rejects.toSatisfy(isInput)
    await expect(composeWeights(1, async () => [])).rejects.toSatisfy(isInput)
  })

  test('may differ by groups of layers, and win where that is better than one weight each', async () => {
    const best = [
      [1, 0, 0.5],
      [0, 0.75, 0],
    ]
    const { score, asked } = examplesByLayers(best)
    const found = await composeWeights(2, score, { groups: 3, regularization: 0 })
    expect(found.name).toBe('composed by layers')
    expect(found.candidates.map(({ name }) => name).slice(-2)).toEqual(['composed', 'composed by layers'])
    for (const [i, row] of best.entries()) {
      for (const [g, weight] of row.entries())
        expect(Math.abs(found.groups![i][g] - weight)).toBeLessThan(0.1)
      expect(found.weights[i]).toBeCloseTo(found.groups![i].reduce((sum, one) => sum + one) / 3, 6)
    }
    expect(found.groupsGain!.value).toBeGreaterThan(found.groupsGain!.se)
    expect(found.evaluations).toBe(asked.length)
    const keys = asked.map(({ weights, groups }) => JSON.stringify(groups ?? weights))
    expect(new Set(keys).size).toBe(asked.length)
  })

  test('by groups of layers lose where layers make no difference, and take half of the evaluations', async () => {
    const { score, asked } = examplesByLayers([[1, 1]])
    const found = await composeWeights(1, score, { groups: 2, evaluations: 12 })
    expect(found).toMatchObject({ name: 'alone', weights: [1] })
    expect(found.groups).toBeUndefined()
    expect(asked.length).toBeLessThanOrEqual(12)
    expect(asked.slice(0, 3).every(({ groups }) => groups === undefined)).toBe(true)
    expect(asked.some(({ groups }) => groups !== undefined)).toBe(true)
    await expect(composeWeights(1, score, { groups: 1.5 })).rejects.toSatisfy((error) =>
      isTritswapError(error, 'input'),
    )
  })
})
