/**
 * `npm run shapes -- [--model qwen,smollm2] [--dtype …] [--density 0.05] [--divisor 1] [--rounds 5] [--json file]` in
 * `bench/gpu`: switches of whole models over Dawn in Node, and how long they take to encode. `--divisor 16` is for a machine
 * without a GPU.
 */
import { writeFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import type { TargetDtype } from '../../src/gpu/target.ts'
import { runShaped, shapedLine } from '../kernels/shaped.ts'
import type { ShapedModel } from '../kernels/shapes.ts'
import { nodeGpu } from './node_gpu.ts'

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: 'qwen,smollm2' },
    dtype: { type: 'string', default: 'float32,float16' },
    density: { type: 'string', default: '0.05' },
    divisor: { type: 'string', default: '1' },
    rounds: { type: 'string', default: '5' },
    json: { type: 'string' },
  },
})
const gpu = await nodeGpu()
const report = await runShaped(
  gpu,
  {
    models: values.model.split(',') as ShapedModel[],
    dtypes: values.dtype.split(',') as TargetDtype[],
    density: Number(values.density),
    divisor: Number(values.divisor),
    rounds: Number(values.rounds),
  },
  (done) => console.log(shapedLine(done)),
)
console.log(`\non ${report.adapter.vendor} ${report.adapter.description}`)
if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify(report, null, 2)}\n`)
gpu.device.destroy()
