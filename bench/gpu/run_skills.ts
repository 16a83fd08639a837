/**
 * `npm run skills -- [options]` in `bench/gpu`: what a skill costs to switch on, over Dawn in Node, in ratios of one run. What
 * Dawn needs is said in `run.ts`.
 */
import { parseArgs } from 'node:util'
import { create, globals } from 'webgpu'
import { requestGpu } from '../../src/gpu/index.ts'
import { timeSkills } from './skills.ts'

const { values } = parseArgs({
  options: {
    layers: { type: 'string', default: '30' },
    'lora-layers': { type: 'string', default: '1' },
    dtype: { type: 'string', default: 'float32' },
    rounds: { type: 'string', default: '5' },
    help: { type: 'boolean', short: 'h', default: false },
  },
})
if (values.help) {
  console.log(`npm run skills -- [options]
  --layers <n>       layers of SmolLM2's 30 that the base has (30)
  --lora-layers <n>  layers in which the LoRA of factors is timed (1); its time is scaled up
  --dtype <type>     float32, float16 (float32)
  --rounds <n>       how often each switch is timed, in turns with the others; the best time counts (5)`)
  process.exit(0)
}
Object.assign(globalThis, globals)
Object.defineProperty(globalThis, 'navigator', {
  value: { gpu: create(['enable-dawn-features=allow_unsafe_apis']) },
  configurable: true,
})
const gpu = await requestGpu()
const { adapter, weights, ms, bytes } = await timeSkills(gpu, {
  layers: Number(values.layers),
  loraLayers: Number(values['lora-layers']),
  dtype: values.dtype === 'float16' ? 'float16' : 'float32',
  rounds: Number(values.rounds),
})
console.log(`${(weights / 1e6).toFixed(1)} M weights, ${values.dtype}, on ${adapter}`)
for (const [name, time] of Object.entries(ms)) {
  const ratio = `${(time / ms['full, apply']).toFixed(2)} × full`.padStart(16)
  const beside = `${(bytes[name] / 1e6).toFixed(1)} MB beside the weights`
  console.log(`${name.padEnd(16)} ${time.toFixed(1).padStart(10)} ms ${ratio}  ${beside}`)
}
if (ms['factors, apply'] !== undefined)
  console.log(`terms are 1/${(ms['factors, apply'] / ms['terms, apply']).toFixed(0)} of factors`)
gpu.device.destroy()
