import { defineConfig } from 'vite'
import { engineFiles } from '../../scripts/engine_files.ts'

/** Serves the compatibility page, and the models of a zoo under `/@fs/`. */
export default defineConfig({
  root: new URL('../..', import.meta.url).pathname,
  // A file that is not there is a 404, not a page.
  appType: 'mpa',
  plugins: [engineFiles()],
  worker: { format: 'es' },
  optimizeDeps: { entries: ['e2e/compat/index.html', 'src/engine/worker.ts', 'src/fetcher/worker.ts'] },
  server: { hmr: false, watch: null, fs: { strict: false } },
  cacheDir: '.cache/vite-compat',
  logLevel: 'error',
})
