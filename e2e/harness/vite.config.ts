import { defineConfig } from 'vite'
import { engineFiles } from '../../scripts/engine_files.ts'

/** The harness page and the sources under test, as the development server serves them. */
export default defineConfig({
  root: new URL('../..', import.meta.url).pathname,
  plugins: [engineFiles()],
  worker: { format: 'es' },
  optimizeDeps: { entries: ['e2e/harness/index.html', 'src/engine/worker.ts', 'src/fetcher/worker.ts'] },
  server: { hmr: false, watch: null },
  cacheDir: '.cache/vite-harness',
})
