import fc from 'fast-check'
import { afterAll, vi } from 'vitest'

// The same properties on the same values in every run, so that a red build means a change.
fc.configureGlobal({ seed: Number(process.env.FUZZ_SEED ?? 1) })

// The next file has the same process.
afterAll(() => {
  vi.useRealTimers()
  vi.unstubAllGlobals()
  vi.unstubAllEnvs()
})
