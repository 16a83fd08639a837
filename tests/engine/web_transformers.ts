/** Which transformers.js the engine has in tests that run in Node. */
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Plugin } from 'vite'

const require = createRequire(import.meta.url)

/** onnxruntime-web's wasm for the CPU alone: half as large as the one with WebGPU. */
export const ORT_FILES = { mjs: ortFile('mjs'), wasm: ortFile('wasm') }

function ortFile(ext: string): string {
  return pathToFileURL(require.resolve(`onnxruntime-web/ort-wasm-simd-threaded.${ext}`)).href
}

const WEB = '\0web-transformers'
const AS_BROWSER = '\0as-browser'

/**
 * Gives `src/engine` and its tests transformers.js as browsers have it, on onnxruntime-web's wasm: its build for Node, which
 * the command line has, wants onnxruntime-node.
 */
export function webTransformers(): Plugin {
  return {
    name: 'tritswap:web-transformers',
    enforce: 'pre',
    resolveId(source, importer = '') {
      if (source === AS_BROWSER) return source
      return source === '@xenova/transformers' && /\/(src|tests)\/engine\//.test(importer) ? WEB : undefined
    },
    load(id) {
      // It asks once where it runs, while it is loaded.
      if (id === AS_BROWSER)
        return `const { release } = process
          const say = (value) => Object.defineProperty(process, 'release', { value, configurable: true })
          say({ name: 'browser' })
          export const end = () => say(release)`
      if (id !== WEB) return undefined
      const script = join(dirname(require.resolve('@xenova/transformers')), 'transformers.web.js')
      return `import { end } from '${AS_BROWSER.replace('\0', '\\0')}'
        export * from ${JSON.stringify(script)}
        end()`
    },
  }
}
