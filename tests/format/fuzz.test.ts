import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { LONG } from '../tier.ts'
import { fuzz, runCase, unpackCase } from './fuzz.ts'

/** The same cases in every run, so that a red build means a change; `npm run fuzz` draws new ones. */
const SEED = Number(process.env.FUZZ_SEED ?? 1)
const CASES = LONG ? 60_000 : 2000

const FIXTURES = new URL('../fixtures/fuzz/', import.meta.url)

describe('hostile bytes', () => {
  test.each(readdirSync(FIXTURES))('what failed once: %s', async (name) => {
    expect(['format', 'limit', 'integrity', 'decoded']).toContain(
      await runCase(unpackCase(name, readFileSync(new URL(name, FIXTURES)))),
    )
  })

  test(`${CASES} mutated ones`, async () => {
    const { outcomes, failures } = await fuzz(SEED, (index) => index < CASES)
    console.log(`fuzz seed ${SEED}: ${JSON.stringify(outcomes)}`)
    expect(
      failures.map(({ index, error }) => `npm run fuzz -- --seed ${SEED} --from ${index} --n 1: ${error}`),
    ).toEqual([])
    // Mutations that no longer reach the decoder would prove nothing.
    expect(outcomes.decoded).toBeGreaterThan(CASES / 10)
    expect(outcomes.format).toBeGreaterThan(CASES / 2)
  })
})
