import { requestGpu } from '../../src/gpu/index.ts'
import { type Conformance, runConformance } from './conformance.ts'

export interface PageReport extends Conformance {
  adapter: string
  f16: boolean
}

declare global {
  /** Called by firefox.test.ts. */
  var conformance: (cases: number, seed: number) => Promise<PageReport>
}

globalThis.conformance = async (cases, seed) => {
  const gpu = await requestGpu()
  const { vendor, architecture, description } = gpu.adapter
  return {
    ...(await runConformance(gpu, cases, seed)),
    adapter: [vendor, architecture, description].join(' '),
    f16: gpu.features.f16,
  }
}
