import { expect, test } from 'vitest'
import { fuzz } from './fuzz.ts'

const CASES = 400

test(`${CASES} hostile graphs`, async () => {
  // The same cases in every run; `npm run fuzz -- --of onnx` draws new ones.
  const seed = Number(process.env.FUZZ_SEED ?? 1)
  const { outcomes, failures } = await fuzz(seed, (index) => index < CASES)
  expect(
    failures.map(
      ({ index, error }) => `npm run fuzz -- --of onnx --seed ${seed} --from ${index} --n 1: ${error}`,
    ),
  ).toEqual([])
  // Mutations that are refused for one reason alone would test little.
  for (const outcome of ['read', 'input']) expect(outcomes[outcome]).toBeGreaterThan(CASES / 20)
})
