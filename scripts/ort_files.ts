import { copyFileSync, createReadStream, mkdirSync, statSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, resolve } from 'node:path'
import { defaultClientConditions, type Plugin } from 'vite'

/** The files of onnxruntime-web that the engine worker loads at run time, from `ort/` and never a CDN. */
const ORT_FILES = ['ort-wasm-simd-threaded.asyncify.mjs', 'ort-wasm-simd-threaded.asyncify.wasm']
const ORT_TYPES: Record<string, string> = { mjs: 'text/javascript', wasm: 'application/wasm' }

/** Sizes of what an engine fetches besides its base, for pages that say so before. */
const SIZES = 'sizes.json'
/** The chunks of the workers that load a base. */
const WORKERS = /(^|\/)worker-[^/]+\.js$/

/** Serves onnxruntime-web's wasm files in development and copies them into the build, with {@link SIZES}. */
export function ortFiles(): Plugin {
  const require = createRequire(import.meta.url)
  // Resolved from transformers.js: the copy that it runs is the one whose wasm fits.
  const transformers = createRequire(require.resolve('@xenova/transformers'))
  const source = dirname(transformers.resolve('onnxruntime-web/ort-wasm-simd-threaded.asyncify.wasm'))
  let outDir = ''
  const wasm = ORT_FILES.reduce((sum, name) => sum + statSync(join(source, name)).size, 0)
  return {
    name: 'tritswap:ort-files',
    // The build of onnxruntime-web that does not carry its wasm: else the bundler emits a second copy of 27 MB.
    config: ({ build }, { command }) => ({
      resolve: { conditions: ['onnxruntime-web-use-extern-wasm', ...defaultClientConditions] },
      define: {
        __TRITSWAP_ORT__: JSON.stringify(command === 'serve' ? '/ort/' : build?.lib ? './ort/' : '../ort/'),
      },
    }),
    configResolved(config) {
      outDir = resolve(config.root, config.build.outDir)
    },
    configureServer(server) {
      // Before Vite's own middleware, which would transform the .mjs as a module of the project.
      server.middlewares.use((request, response, next) => {
        const name = /\/ort\/([^/?]+)(\?|$)/.exec(request.url ?? '')?.[1]
        if (name === SIZES) {
          response.setHeader('Content-Type', 'application/json')
          return void response.end(JSON.stringify({ wasm }))
        }
        if (name === undefined || !ORT_FILES.includes(name)) return next()
        response.setHeader(
          'Content-Type',
          ORT_TYPES[name.split('.').at(-1) ?? ''] ?? 'application/octet-stream',
        )
        response.setHeader('Content-Length', statSync(join(source, name)).size)
        createReadStream(join(source, name)).pipe(response)
      })
    },
    writeBundle(_options, bundle) {
      const workers = Object.keys(bundle).filter((name) => WORKERS.test(name))
      const scripts = workers.reduce((sum, name) => sum + statSync(join(outDir, name)).size, 0)
      mkdirSync(join(outDir, 'ort'), { recursive: true })
      for (const name of ORT_FILES) copyFileSync(join(source, name), join(outDir, 'ort', name))
      writeFileSync(join(outDir, 'ort', SIZES), JSON.stringify({ wasm, scripts }))
    },
  }
}
