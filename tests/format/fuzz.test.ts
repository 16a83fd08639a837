import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { fuzz, runCase, unpackCase } from './fuzz.ts'

const FIXTURES = new URL('../fixtures/fuzz/', import.meta.url)

describe('hostile bytes', () => {
  test.each(readdirSync(FIXTURES))('what failed once: %s', async (name) => {
    expect(['format', 'limit', 'integrity', 'decoded']).toContain(
      await runCase(unpackCase(name, readFileSync(new URL(name, FIXTURES)))),
    )
  })

  test('20 seconds of mutated ones', async () => {
    // The same cases in every run, so that a red build means a change; `npm run fuzz` draws new ones.
    const seed = Number(process.env.FUZZ_SEED ?? 1)
    const end = Date.now() + 20_000
    const { cases, outcomes, failures } = await fuzz(seed, () => Date.now() < end)
    console.log(`fuzz seed ${seed}: ${cases} cases, ${JSON.stringify(outcomes)}`)
    expect(
      failures.map(({ index, error }) => `npm run fuzz -- --seed ${seed} --from ${index} --n 1: ${error}`),
    ).toEqual([])
  })
})
