import { requestGpu } from '../../src/gpu/index.ts'
import { type BenchCase, type BenchOptions, type BenchReport, runBench } from './cases.ts'

declare global {
  /** Called by `run.ts` through Playwright. */
  var bench: (options: BenchOptions) => Promise<BenchReport>
  /** Exposed by `run.ts`; called after each case. */
  var onCase: (done: BenchCase) => void
}

globalThis.bench = async (options) => runBench(await requestGpu(), options, globalThis.onCase)
