import { requestGpu } from '../../src/gpu/index.ts'
import { type Conformance, runConformance } from './conformance.ts'

/** What the page says to the server that it came from. */
export type PageReport = (Conformance & { adapter: string; f16: boolean }) | { error: string }

async function run(cases: number, seed: number): Promise<PageReport> {
  try {
    const gpu = await requestGpu()
    const { vendor, architecture, description } = gpu.adapter
    return {
      ...(await runConformance(gpu, cases, seed)),
      adapter: [vendor, architecture, description].join(' '),
      f16: gpu.features.f16,
    }
  } catch (error) {
    return { error: String(error) }
  }
}

const asked = new URLSearchParams(location.search)
const report = await run(Number(asked.get('cases')), Number(asked.get('seed')))
await fetch('/report', { method: 'POST', body: JSON.stringify(report) })
