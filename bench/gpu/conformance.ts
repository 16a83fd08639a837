/**
 * `npm run conformance -- [--cases 64] [--seed n] [--kernel apply,pair]` in `bench/gpu`: every kernel against its twin, over Dawn
 * in Node. What Dawn needs is said in `run.ts`.
 */
import { parseArgs } from 'node:util'
import { KERNELS } from '../../tests/gpu/conformance/kernels.ts'
import { checkKernel, conformance } from '../../tests/gpu/conformance/run.ts'
import { nodeGpu } from './node_gpu.ts'

const { values } = parseArgs({
  options: {
    cases: { type: 'string' },
    seed: { type: 'string' },
    kernel: { type: 'string', default: Object.keys(KERNELS).join() },
  },
})
const { cases, seed } = conformance({ SEED: values.seed })
const gpu = await nodeGpu()
let failed = 0
for (const name of values.kernel.split(',')) {
  const failures = await checkKernel(gpu, name, { cases: Number(values.cases ?? cases), seed })
  console.log(`${name.padEnd(16)} ${failures.length === 0 ? 'does what its twin does' : failures[0]}`)
  if (failures.length > 0) failed++
}
gpu.device.destroy()
process.exitCode = failed === 0 ? 0 : 1
