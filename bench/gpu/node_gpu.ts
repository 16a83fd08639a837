import { create, globals } from 'webgpu'
import { type Gpu, requestGpu } from '../../src/gpu/index.ts'

/** The GPU of this machine, by Dawn. It lives as long as the process: Dawn crashes where its instance is collected. */
export async function nodeGpu(): Promise<Gpu> {
  Object.assign(globalThis, globals)
  Object.defineProperty(globalThis, 'navigator', {
    value: { gpu: create(['enable-dawn-features=allow_unsafe_apis']) },
    configurable: true,
  })
  return requestGpu()
}
