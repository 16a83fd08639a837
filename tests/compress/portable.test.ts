import { expect, test } from 'vitest'
import { compressSample, SAMPLE_SHA256 } from './portable.ts'

test('the compressor writes the same file in Node as in a browser worker', async () => {
  expect(await compressSample()).toBe(SAMPLE_SHA256)
})
