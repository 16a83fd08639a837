import { requestGpu } from '../../src/gpu/index.ts'
import { KERNELS } from './conformance/kernels.ts'
import { checkKernel } from './conformance/run.ts'

/** What the page tells the server that it came from: what differed, by kernel. */
export type PageReport = { adapter: string; failures: Record<string, string[]> } | { error: string }

async function run(cases: number, seed: number): Promise<PageReport> {
  try {
    const gpu = await requestGpu()
    const { vendor, architecture, description } = gpu.adapter
    const failures: Record<string, string[]> = {}
    for (const name of Object.keys(KERNELS)) failures[name] = await checkKernel(gpu, name, { cases, seed })
    return { adapter: [vendor, architecture, description].join(' '), failures }
  } catch (error) {
    return { error: String(error) }
  }
}

const asked = new URLSearchParams(location.search)
const report = await run(Number(asked.get('cases')), Number(asked.get('seed')))
await fetch('/report', { method: 'POST', body: JSON.stringify(report) })
