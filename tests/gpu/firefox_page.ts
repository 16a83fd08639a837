import { requestGpu } from '../../src/gpu/index.ts'
import { KERNELS } from './conformance/kernels.ts'
import { checkKernel } from './conformance/run.ts'
import { CLASSES, gpuOf } from './fixtures.ts'
import { randomSwitches } from './random_switches.ts'

/** What the page tells the server that it came from: what differed, by kernel, and what was wrong with switches, by class. */
export type PageReport =
  | { adapter: string; failures: Record<string, string[]>; switches: Record<string, string[]> }
  | { error: string }

async function run(cases: number, seed: number, switches: number): Promise<PageReport> {
  try {
    const gpu = await requestGpu()
    const { vendor, architecture, description } = gpu.adapter
    const failures: Record<string, string[]> = {}
    for (const name of Object.keys(KERNELS)) failures[name] = await checkKernel(gpu, name, { cases, seed })
    const wrong: Record<string, string[]> = {}
    for (const name of switches > 0 ? (Object.keys(CLASSES) as (keyof typeof CLASSES)[]) : [])
      wrong[name] = await randomSwitches(gpuOf(gpu, name), { seed, switches, size: 64 })
    return { adapter: [vendor, architecture, description].join(' '), failures, switches: wrong }
  } catch (error) {
    return { error: String(error) }
  }
}

const asked = new URLSearchParams(location.search)
const report = await run(Number(asked.get('cases')), Number(asked.get('seed')), Number(asked.get('switches')))
await fetch('/report', { method: 'POST', body: JSON.stringify(report) })
