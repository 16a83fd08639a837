import fc from 'fast-check'

// The same properties on the same values in every run, so that a red build means a change.
fc.configureGlobal({ seed: Number(process.env.FUZZ_SEED ?? 1) })
