import { copyFileSync, createReadStream, mkdirSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, resolve } from 'node:path'
import { defaultClientConditions, type Plugin } from 'vite'

/**
 * The files that the engine worker loads at run time, never from a CDN: onnxruntime-web's wasm and its glue, and the
 * library of grammars, for calls that ask for JSON.
 */
const FILES: Record<string, (require: NodeJS.Require) => string> = {
  'ort-wasm-simd-threaded.asyncify.mjs': ortFile('mjs'),
  'ort-wasm-simd-threaded.asyncify.wasm': ortFile('wasm'),
  'grammar.mjs': (require) => require.resolve('@mlc-ai/web-xgrammar'),
}
const TYPES: Record<string, string> = { mjs: 'text/javascript', wasm: 'application/wasm' }

/** Resolved from transformers.js: the copy that it runs is the one whose wasm fits. */
function ortFile(ext: string): (require: NodeJS.Require) => string {
  return (require) =>
    createRequire(require.resolve('@xenova/transformers')).resolve(
      `onnxruntime-web/ort-wasm-simd-threaded.asyncify.${ext}`,
    )
}

export interface EngineFilesPlace {
  /** Folder of the build that gets the files. */
  folder: string
  /** The same as seen from the scripts of the build. */
  fromScripts: string
  /** Whether this build copies them; another one may have done so. */
  copies: boolean
}

/** Serves the engine's files in development, and copies them into the build. */
export function engineFiles({
  folder = 'ort',
  fromScripts = `../${folder}`,
  copies = true,
}: Partial<EngineFilesPlace> = {}): Plugin {
  const require = createRequire(import.meta.url)
  const sourceOf = (name: string) => FILES[name](require)
  let outDir = ''
  return {
    name: 'tritswap:engine-files',
    // The build of onnxruntime-web that does not carry its wasm: else the bundler emits a second copy of 27 MB.
    config: (_config, { command }) => {
      const [glue, wasm, grammar] = Object.keys(FILES).map((name) =>
        JSON.stringify(`${command === 'serve' ? '/ort' : fromScripts}/${name}`),
      )
      return {
        resolve: { conditions: ['onnxruntime-web-use-extern-wasm', ...defaultClientConditions] },
        define: {
          __TRITSWAP_ORT_GLUE__: glue,
          __TRITSWAP_ORT_WASM__: wasm,
          __TRITSWAP_GRAMMAR__: grammar,
        },
      }
    },
    configResolved(config) {
      outDir = resolve(config.root, config.build.outDir)
    },
    configureServer(server) {
      // Before Vite's own middleware, which would transform the .mjs as a module of the project.
      server.middlewares.use((request, response, next) => {
        const name = /\/ort\/([^/?]+)(\?|$)/.exec(request.url ?? '')?.[1]
        if (name === undefined || !Object.hasOwn(FILES, name)) return next()
        const source = sourceOf(name)
        response.setHeader('Content-Type', TYPES[name.split('.').at(-1) ?? ''] ?? 'application/octet-stream')
        response.setHeader('Content-Length', statSync(source).size)
        createReadStream(source).pipe(response)
      })
    },
    writeBundle() {
      if (!copies) return
      mkdirSync(join(outDir, folder), { recursive: true })
      for (const name of Object.keys(FILES)) copyFileSync(sourceOf(name), join(outDir, folder, name))
    },
  }
}
