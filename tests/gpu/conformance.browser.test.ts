import { expect, test } from 'vitest'
import { KERNELS } from './conformance/kernels.ts'
import { checkKernel, conformance } from './conformance/run.ts'
import { testGpu } from './fixtures.ts'

const options = conformance(import.meta.env)

test.each(Object.keys(KERNELS))('%s does what its twin does', async (name) => {
  expect(await checkKernel(await testGpu(), name, options)).toEqual([])
})
