import { expect, test } from 'vitest'
import { connectWorker } from '../../src/rpc/index.ts'
import { SAMPLE_SHA256 } from './portable.ts'
import type { CompressApi } from './portable.worker.ts'

test('the compressor writes the same file in a browser worker as in Node', async () => {
  const worker = new Worker(new URL('./portable.worker.ts', import.meta.url), { type: 'module' })
  const link = connectWorker<CompressApi>(worker, 'compressor')
  expect(await link.api.compressSample()).toBe(SAMPLE_SHA256)
  link.terminate()
})
