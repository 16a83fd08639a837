import { copyFileSync, createReadStream, mkdirSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, resolve } from 'node:path'
import { defaultClientConditions, type Plugin } from 'vite'

/** The files of onnxruntime-web that the engine worker loads at run time, never from a CDN. */
const ORT_FILES = ['ort-wasm-simd-threaded.asyncify.mjs', 'ort-wasm-simd-threaded.asyncify.wasm']
const ORT_TYPES: Record<string, string> = { mjs: 'text/javascript', wasm: 'application/wasm' }

export interface OrtPlace {
  /** Folder of the build that gets the files. */
  folder: string
  /** The same as seen from the scripts of the build. */
  fromScripts: string
  /** Whether this build copies them; another one may have done so. */
  copies: boolean
}

/** Serves onnxruntime-web's files in development, and copies them into the build. */
export function ortFiles({
  folder = 'ort',
  fromScripts = `../${folder}`,
  copies = true,
}: Partial<OrtPlace> = {}): Plugin {
  const require = createRequire(import.meta.url)
  // Resolved from transformers.js: the copy that it runs is the one whose wasm fits.
  const transformers = createRequire(require.resolve('@xenova/transformers'))
  const source = dirname(transformers.resolve('onnxruntime-web/ort-wasm-simd-threaded.asyncify.wasm'))
  let outDir = ''
  return {
    name: 'tritswap:ort-files',
    // The build of onnxruntime-web that does not carry its wasm: else the bundler emits a second copy of 27 MB.
    config: (_config, { command }) => {
      const [glue, wasm] = ORT_FILES.map((name) =>
        JSON.stringify(`${command === 'serve' ? '/ort' : fromScripts}/${name}`),
      )
      return {
        resolve: { conditions: ['onnxruntime-web-use-extern-wasm', ...defaultClientConditions] },
        define: { __TRITSWAP_ORT_GLUE__: glue, __TRITSWAP_ORT_WASM__: wasm },
      }
    },
    configResolved(config) {
      outDir = resolve(config.root, config.build.outDir)
    },
    configureServer(server) {
      // Before Vite's own middleware, which would transform the .mjs as a module of the project.
      server.middlewares.use((request, response, next) => {
        const name = /\/ort\/([^/?]+)(\?|$)/.exec(request.url ?? '')?.[1]
        if (name === undefined || !ORT_FILES.includes(name)) return next()
        response.setHeader(
          'Content-Type',
          ORT_TYPES[name.split('.').at(-1) ?? ''] ?? 'application/octet-stream',
        )
        response.setHeader('Content-Length', statSync(join(source, name)).size)
        createReadStream(join(source, name)).pipe(response)
      })
    },
    writeBundle() {
      if (!copies) return
      mkdirSync(join(outDir, folder), { recursive: true })
      for (const name of ORT_FILES) copyFileSync(join(source, name), join(outDir, folder, name))
    },
  }
}
