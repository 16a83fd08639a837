import { expect, test } from 'vitest'
import { runConformance } from './conformance.ts'
import { testGpu } from './fixtures.ts'

test('every kernel does what its twin does, bit for bit where the maths is exact', async () => {
  const { comparisons, failures } = await runConformance(await testGpu(), 200, 1)
  expect(failures).toEqual([])
  expect(comparisons).toBeGreaterThan(200 * 15)
})
