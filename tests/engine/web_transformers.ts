/**
 * transformers.js as browsers have it, in Node on onnxruntime-web's wasm: its build for Node wants onnxruntime-node. In a
 * test: `vi.mock('@xenova/transformers', webTransformers)`.
 */
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'

const require = createRequire(import.meta.url)

export async function webTransformers(): Promise<typeof import('@xenova/transformers')> {
  const { release } = process
  // Where it runs, it asks once, while it is loaded.
  Object.defineProperty(process, 'release', { value: { name: 'browser' }, configurable: true })
  try {
    const folder = dirname(require.resolve('@xenova/transformers'))
    return await import(/* @vite-ignore */ pathToFileURL(join(folder, 'transformers.web.js')).href)
  } finally {
    Object.defineProperty(process, 'release', { value: release, configurable: true })
  }
}

/** onnxruntime-web's wasm for the CPU alone: half as large as the one with WebGPU. */
export const ORT_FILES = { mjs: ortFile('mjs'), wasm: ortFile('wasm') }

function ortFile(ext: string): string {
  return pathToFileURL(require.resolve(`onnxruntime-web/ort-wasm-simd-threaded.${ext}`)).href
}
