import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vite'

const { version } = JSON.parse(readFileSync(new URL('package.json', import.meta.url), 'utf8'))
const entry = (path: string) => fileURLToPath(new URL(path, import.meta.url))

/**
 * The command line: `dist/cli.js`, with all in it that it needs, so that the package depends on nothing. What runs models
 * is left to those who want `eval` and `check`.
 */
export default defineConfig({
  define: { __TRITSWAP_VERSION__: JSON.stringify(version) },
  publicDir: false,
  ssr: { noExternal: true, external: ['@xenova/transformers', 'onnxruntime-web'] },
  build: {
    ssr: true,
    target: 'node20',
    emptyOutDir: false,
    rolldownOptions: {
      input: { cli: entry('src/cli/bin.ts'), 'cli/compress_worker': entry('src/cli/compress_worker.ts') },
      output: { entryFileNames: '[name].js', chunkFileNames: 'cli/[name]-[hash].js' },
    },
  },
})
