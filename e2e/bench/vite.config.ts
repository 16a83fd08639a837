import { defineConfig } from 'vite'
import { engineFiles } from '../../scripts/engine_files.ts'

// Memory of all threads is told only to pages that are isolated from other origins.
const headers = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
}

const root = new URL('../..', import.meta.url).pathname

/** The page that the benchmark measures in, built as any page is. */
export default defineConfig({
  root,
  base: './',
  appType: 'mpa',
  publicDir: false,
  plugins: [engineFiles()],
  worker: { format: 'es' },
  build: {
    target: 'es2022',
    assetsInlineLimit: 0,
    outDir: `${root}.cache/bench/site`,
    emptyOutDir: true,
    rolldownOptions: { input: `${root}e2e/bench/page/index.html` },
  },
  preview: { headers },
})
