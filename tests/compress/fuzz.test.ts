import { expect, test } from 'vitest'
import { fuzz } from './fuzz.ts'

test('3000 hostile headers, indexes and configurations', async () => {
  // The same cases in every run; `npm run fuzz -- --of compress` draws new ones.
  const seed = Number(process.env.FUZZ_SEED ?? 1)
  const { outcomes, failures } = await fuzz(seed, (index) => index < 3000)
  expect(
    failures.map(
      ({ index, error }) => `npm run fuzz -- --of compress --seed ${seed} --from ${index} --n 1: ${error}`,
    ),
  ).toEqual([])
  // Mutations that are refused for one reason alone would test little.
  for (const outcome of ['read', 'format', 'input', 'unsupported'])
    expect(outcomes[outcome]).toBeGreaterThan(50)
})
