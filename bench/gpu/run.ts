/**
 * `npm start -- [options of bench:kernels]` in `bench/gpu`: the same cases over Dawn in Node, for machines without a
 * browser. Dawn loads libvulkan.so.1: where it is not installed system-wide, set LD_LIBRARY_PATH to its folder. On a
 * machine without a GPU, use Chromium's software driver:
 * `VK_ICD_FILENAMES=/usr/lib/chromium/vk_swiftshader_icd.json npm start`.
 */
import { writeFile } from 'node:fs/promises'
import { runBench } from '../kernels/cases.ts'
import { optionsOrHelp, report } from '../kernels/options.ts'
import { nodeGpu } from './node_gpu.ts'

const { bench, json } = optionsOrHelp('npm start --', false)
const gpu = await nodeGpu()
const result = await runBench(gpu, bench, (done) => console.log(report(done)))
const { description, vendor, software } = result.adapter
console.log(
  `\non ${vendor} ${description}${software ? ' (software: ratios only mean something among themselves)' : ''}`,
)
if (json !== undefined) await writeFile(json, `${JSON.stringify(result, null, 2)}\n`)
gpu.device.destroy()
