/**
 * `npm run all -- [--json all.json] [--divisor 1] [--cases 64] [--layers 30]` in `bench/gpu`: what there is to know of a card, in one
 * process and one JSON file: every kernel against its twin, one tensor of 16 M, switches of whole models and of one tensor as large, skills.
 */
import { writeFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { KERNELS } from '../../tests/gpu/conformance/kernels.ts'
import { checkKernel, conformance } from '../../tests/gpu/conformance/run.ts'
import { runBench } from '../kernels/cases.ts'
import { report } from '../kernels/options.ts'
import { runShaped, shapedLine } from '../kernels/shaped.ts'
import { nodeGpu } from './node_gpu.ts'
import { timeSkills } from './skills.ts'

const { values } = parseArgs({
  options: {
    json: { type: 'string', default: 'all.json' },
    divisor: { type: 'string', default: '1' },
    cases: { type: 'string', default: '64' },
    layers: { type: 'string', default: '30' },
    rounds: { type: 'string', default: '5' },
  },
})
const divisor = Number(values.divisor)
const rounds = Number(values.rounds)
const gpu = await nodeGpu()
const { adapter, features } = gpu
console.log(`on ${[adapter.vendor, adapter.architecture, adapter.description].filter(Boolean).join(', ')}`)
const found: Record<string, unknown> = { adapter, features: { ...features, all: [...gpu.device.features] } }
/** Seconds of each part, and those that this thread was busy in: a card is lent by the minute, and what is left is the card's time. */
const seconds: Record<string, { all: number; thread: number }> = {}

/** What a part found is written at once, so that one which fails costs nothing of the others. */
async function part(name: string, run: () => Promise<unknown>): Promise<void> {
  const from = performance.now()
  const busy = performance.eventLoopUtilization()
  try {
    found[name] = await run()
  } catch (error) {
    found[name] = { error: String(error) }
    console.error(`${name}: ${error}`)
    process.exitCode = 1
  }
  const rounded = (ms: number) => Math.round(ms / 100) / 10
  seconds[name] = {
    all: rounded(performance.now() - from),
    thread: rounded(performance.eventLoopUtilization(busy).active),
  }
  await writeFile(values.json, `${JSON.stringify({ ...found, seconds }, null, 2)}\n`)
}

await part('conformance', async () => {
  const { seed } = conformance({})
  const failures: Record<string, string[]> = {}
  for (const name of Object.keys(KERNELS)) {
    failures[name] = await checkKernel(gpu, name, { cases: Number(values.cases), seed })
    if (failures[name].length > 0) process.exitCode = 1
    console.log(`${name.padEnd(16)} ${failures[name][0] ?? 'does what its twin does'}`)
  }
  return { seed, cases: Number(values.cases), failures }
})
await part('kernels', () => {
  const weights = Math.max(4096, Math.floor(2 ** 24 / divisor))
  const options = {
    weights,
    dtypes: ['float32', 'float16'],
    layouts: ['transposed'],
    densities: [0.05],
  } as const
  return runBench(gpu, { ...options, rounds }, (done) => console.log(report(done)))
})
await part('shapes', () =>
  runShaped(
    gpu,
    { models: ['qwen', 'smollm2'], dtypes: ['float32', 'float16'], density: 0.05, divisor, rounds },
    (done) => console.log(shapedLine(done)),
  ),
)
// A card that binds no buffer of 1.4 GB has the figures of f16 all the same.
for (const dtype of ['float16', 'float32'] as const) {
  await part(`one tensor, ${dtype}`, () =>
    runShaped(
      gpu,
      { models: ['single'], dtypes: [dtype], density: 0.05, divisor, rounds, slots: [1] },
      (done) => console.log(shapedLine(done)),
    ),
  )
}
await part('skills', async () => {
  const skills = await timeSkills(gpu, {
    layers: Number(values.layers),
    loraLayers: 1,
    dtype: 'float32',
    rounds,
  })
  for (const [name, ms] of Object.entries(skills.ms)) console.log(`${name.padEnd(16)} ${ms.toFixed(2)} ms`)
  return skills
})
console.log(
  `\n${values.json}: ${Object.entries(seconds)
    .map(([name, { all, thread }]) => `${name} ${all} s (${thread} of this thread)`)
    .join(', ')}`,
)
gpu.device.destroy()
