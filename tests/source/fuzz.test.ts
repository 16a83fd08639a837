import { expect, test } from 'vitest'
import { LONG } from '../tier.ts'
import { fuzz } from './fuzz.ts'

const CASES = LONG ? 20_000 : 1500

test(`${CASES} hostile registries, manifests, names, links, headers and cache entries`, async () => {
  // The same cases in every run; `npm run fuzz -- --of source` draws new ones.
  const seed = Number(process.env.FUZZ_SEED ?? 1)
  const { outcomes, failures } = await fuzz(seed, (index) => index < CASES)
  expect(
    failures.map(
      ({ index, error }) => `npm run fuzz -- --of source --seed ${seed} --from ${index} --n 1: ${error}`,
    ),
  ).toEqual([])
  // Mutations that are refused for one reason alone would test little.
  for (const outcome of ['read', 'format', 'input', 'network'])
    expect(outcomes[outcome]).toBeGreaterThan(CASES / 100)
})
