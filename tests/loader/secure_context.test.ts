import { afterEach, expect, test, vi } from 'vitest'
import { sha256 } from '../../src/format/sha256.ts'
import { requestGpu } from '../../src/gpu/index.ts'
import { attachExperts } from '../../src/loader/attach.ts'
import { ExpertLoader } from '../../src/loader/index.ts'
import { fakePage } from './fake_page.ts'

afterEach(() => vi.unstubAllGlobals())

test('on a page on plain http every way in says why nothing works there', async () => {
  fakePage()
  vi.stubGlobal('isSecureContext', false)
  vi.stubGlobal('crypto', {})
  const session = { inputNames: [], run: async () => ({}) }
  const refusal = { tag: 'webgpu', message: expect.stringContaining('serve it on https, or on localhost') }
  await expect(requestGpu()).rejects.toMatchObject(refusal)
  await expect(sha256(new Uint8Array(1))).rejects.toMatchObject(refusal)
  await expect(attachExperts(session, { model: 'https://m.example/x' })).rejects.toMatchObject(refusal)
  await expect(ExpertLoader.create({ model: './m' })).rejects.toMatchObject(refusal)
})
