import { fileURLToPath } from 'node:url'
import { build, type Plugin } from 'vite'
import { engineFiles } from './engine_files.ts'

/** The folder of the package with all that is fetched and not imported, as seen from its scripts. */
export const ASSETS = 'assets'

/** The workers by their names in {@link ASSETS}, with the address that the source names each by. */
const WORKERS = [
  { name: 'engine', source: '../engine/worker.ts', define: '__TRITSWAP_ENGINE__' },
  { name: 'fetcher', source: '../fetcher/worker.ts', define: '__TRITSWAP_FETCHER__' },
]
const STARTED_IN = '/src/loader/assets.ts'

/**
 * Builds each worker into one file of its own with a name that stays, and names it where it is started by the literal
 * address of that file, `new URL("./assets/engine.js", import.meta.url)`: bundlers of other people find it so, and emit
 * it as it is. Vite's own addresses of workers in libraries are nested, which most bundlers do not take apart.
 */
export function libWorkers(): Plugin {
  return {
    name: 'tritswap:lib-workers',
    enforce: 'pre',
    config: () => ({
      define: Object.fromEntries(
        WORKERS.map(({ name, define }) => [define, JSON.stringify(`./${ASSETS}/${name}.js`)]),
      ),
    }),
    transform(code, id) {
      if (!id.endsWith(STARTED_IN)) return
      for (const { source, define } of WORKERS) {
        if (!code.includes(`'${source}'`)) throw new Error(`Cannot find ${source} in ${id}`)
        code = code.replace(`'${source}'`, define)
      }
      return { code, map: null }
    },
    async closeBundle() {
      for (const { name, source } of WORKERS) {
        await build({
          configFile: false,
          publicDir: false,
          logLevel: 'warn',
          plugins: [engineFiles({ copies: false })],
          build: {
            target: 'es2022',
            outDir: `lib/${ASSETS}`,
            emptyOutDir: false,
            copyPublicDir: false,
            sourcemap: true,
            minify: true,
            rolldownOptions: {
              input: { [name]: fileURLToPath(new URL(`../src/loader/${source}`, import.meta.url)) },
              output: { format: 'es', entryFileNames: '[name].js', codeSplitting: false },
            },
          },
        })
      }
    },
  }
}
