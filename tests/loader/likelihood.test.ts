import { expect, test } from 'vitest'
import type { Expert } from '../../src/loader/expert_library.ts'
import { type LikelihoodHost, routeByLikelihood } from '../../src/loader/likelihood.ts'

const experts = ['sql', 'poet'].map((id) => ({ id, label: id.toUpperCase() }) as Expert)

/** A model that needs so many bits a token. */
const host = (bits: Record<string, number>): LikelihoodHost => ({
  tokenize: async (text) => text.split(' ').map((_, i) => i),
  score: async (tokens, expert) => {
    expect(tokens.length).toBeLessThanOrEqual(256)
    const scored = tokens.length - 1
    return { bits: scored * bits[expert?.id ?? 'base']!, bytes: 1, tokens: scored }
  },
})

test('the expert under which a text is likeliest is chosen, with the bits that it saves', async () => {
  const route = await routeByLikelihood('a b c', experts, host({ base: 4, sql: 4.5, poet: 3.2 }))
  expect(route.chosen).toMatchObject({ id: 'poet', score: expect.closeTo(0.8) })
  expect(route.ranking.map(({ id }) => id)).toEqual(['poet', 'sql'])
  expect(route.why).toBe('POET: it is 0.80 bits a token likelier to POET than to the base')
})

test('none is chosen where none saves enough, and long texts are cut to what a pass takes', async () => {
  const text = 'x '.repeat(1000)
  const route = await routeByLikelihood(text, experts, host({ base: 4, sql: 4.5, poet: 3.98 }))
  expect(route.chosen).toBeUndefined()
  expect(route.why).toMatch(/^None fits/)
})

test('a text of one token is refused', async () => {
  await expect(routeByLikelihood('a', experts, host({}))).rejects.toMatchObject({ tag: 'input' })
})
